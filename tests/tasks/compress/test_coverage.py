"""What a pass tells of the layers that it left."""

from __future__ import annotations

import pytest
from prefect_hone.ray_workers.workspace import Result
from prefect_hone.tasks.compress.coverage import tell
from prefect_hone.tasks.specs.compress import Coverage, LayerCoverage


def layer(name: str, why: str | None = None) -> LayerCoverage:
    return LayerCoverage(layer=name, operator="GRU", weights=10, left_because=why)


def test_a_layer_that_is_called_several_times_is_named_once() -> None:
    left = [layer("encoder", "recurrent"), *[layer("decoder", "recurrent")] * 8]
    result = Result()
    tell(result, Coverage(layers=(layer("out"), *left)), "quantized", "quantize")
    assert result.notes == [
        "9 of 10 layers were not quantized: encoder, decoder (8 times) (recurrent)"
    ]


@pytest.mark.parametrize(
    ("left", "size", "said"),
    [
        ("recurrent", 50_000, "50.00 kB, where 10.00 kB would be with every layer quantized"),
        (None, 50_000, None),
        (None, 5_000_000, "5.00 MB, where weights alone have 10.00 kB: the rest is scales"),
    ],
)
def test_a_result_that_is_larger_than_its_weights_says_what_takes_the_rest(
    left: str | None, size: int, said: str | None
) -> None:
    result = Result()
    made = Coverage(layers=(layer("out"), layer("in", left)), expected_bytes=10_000, bytes=size)
    tell(result, made, "quantized", "quantize")
    found = [note for note in result.notes if note.startswith("the result has")]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]
