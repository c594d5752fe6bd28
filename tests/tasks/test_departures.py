"""Why a compressed candidate is far from the trained model, and what helps, by what was found."""

from __future__ import annotations

from typing import Any

import pytest
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.departures import departure_of
from prefect_hone.tasks.specs.layer_parity import LayerParity, LayerParityFacts

SLIM = {"kind": "prune", "method": "magnitude", "ratio": 0.5}


def passes(*given: dict[str, Any]) -> tuple[Any, ...]:
    made = Recipe.model_validate({
        "name": "n", "model": {"factory": "m:f"}, "data": {"factory": "m:f"},
        "train": {"epochs": 1, "batch_size": 1}, "targets": ["onnxruntime-cpu"],
        "variants": [{"name": "v", "passes": list(given)}], "registry": {"model": "m"},
    })  # fmt: skip
    return made.variants[0].passes


def int8(**fields: Any) -> dict[str, Any]:
    return {"kind": "quantize", "scheme": "static-int8", **fields}


def parity(*decibels: float, departs_at: str | None = None) -> LayerParityFacts:
    layers = [
        LayerParity(layer=f"layer{i}", sqnr_db=db, before_db=decibels[i - 1] if i else 100.0)
        for i, db in enumerate(decibels)
    ]
    return LayerParityFacts(layers=tuple(layers), departs_at=departs_at)


def said(db: float, facts: LayerParityFacts | None, *given: dict[str, Any]) -> str:
    found = departure_of(db, passes(*given), facts, "the runtime of openvino-cpu")
    assert found is not None
    return found


def test_a_near_one_and_an_uncompressed_one_have_nothing_to_tell() -> None:
    assert departure_of(25.0, passes(int8()), parity(30.0), "it") is None
    assert departure_of(5.0, (), None, "it") is None


def test_noise_that_adds_up_names_the_layer_that_loses_most() -> None:
    told = said(14.0, parity(30.0, 22.0, 14.0), int8())
    assert "adds up over 3 layers, most at layer layer0: 30 dB from exact inputs" in told
    assert told.endswith("→ operators: layers, calibration: percentile, or engine: nncf")


def test_a_runtime_that_computes_the_graph_otherwise_is_named() -> None:
    told = said(3.0, parity(40.0, 30.0), int8(reduce_range=False))
    assert "ONNX Runtime computes the same graph with 30 dB: the runtime of openvino-cpu" in told
    assert told.endswith("try reduce_range: true, or engine: nncf")
    assert said(3.0, parity(30.0), int8(reduce_range=True)).endswith("try engine: nncf")


def test_pruning_before_a_good_quantization_is_named_as_the_cause() -> None:
    told = said(6.0, parity(35.0), SLIM, int8())
    assert "because of prune: the quantization after it keeps 35 dB" in told
    assert said(6.0, None, SLIM) == "its outputs have 6 dB SQNR, after prune"


@pytest.mark.parametrize(
    ("fields", "helps"),
    [
        ({"scheme": "static-int8", "engine": "nncf"}, "accuracy_control, or scheme: weight-int8"),
        ({"scheme": "dynamic-int8"}, "scheme: weight-int8"),
        ({"scheme": "weight-int4"}, "algorithm: awq, a smaller group_size, or scheme: weight-int8"),
        ({"scheme": "weight-int8"}, "scheme: fp16"),
        ({"scheme": "fp8"}, "scheme: weight-int8"),
    ],
    ids=lambda value: value["scheme"] if isinstance(value, dict) else "",
)
def test_the_remedy_is_a_field_of_the_scheme(fields: dict[str, Any], helps: str) -> None:
    facts = parity(40.0, 5.0, departs_at="layer1")
    told = said(5.0, facts, {"kind": "quantize", **fields})
    assert told.endswith(f"→ skip_layers: ['layer1'], or {helps}")


def test_half_floats_have_no_layers_to_skip() -> None:
    told = said(5.0, parity(5.0, departs_at="layer0"), {"kind": "quantize", "scheme": "fp16"})
    assert told.endswith("→ scheme: bf16, which has the range of fp32")
