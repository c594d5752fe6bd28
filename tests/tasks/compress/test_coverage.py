"""What a pass tells of the layers that it left."""

from __future__ import annotations

from prefect_hone.ray_workers.workspace import Result
from prefect_hone.tasks.compress.coverage import tell
from prefect_hone.tasks.specs.compress import Coverage, LayerCoverage


def test_a_layer_that_is_called_several_times_is_named_once() -> None:
    def layer(name: str, why: str | None = None) -> LayerCoverage:
        return LayerCoverage(layer=name, operator="GRU", weights=10, left_because=why)

    left = [layer("encoder", "recurrent"), *[layer("decoder", "recurrent")] * 8]
    result = Result()
    tell(result, Coverage(layers=(layer("out"), *left)), "quantized", "quantize")
    assert result.notes == [
        "9 of 10 layers were not quantized: encoder, decoder (8 times) (recurrent)"
    ]
