"""The node that a runtime's error is about, by the user's layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_graphs import GraphBench, GraphMaker
from prefect_hone.recipe.errors import StepFailed


def in_layer(maker: GraphMaker, layer: str) -> None:
    """The last node is of a layer, as the export step notes it."""
    entry = maker.nodes[-1].metadata_props.add()
    entry.key, entry.value = "hone.layer", layer


def refused(tmp_path: Path, kind: str, graph: Any) -> str:
    with pytest.raises(StepFailed) as failed:
        GraphBench(tmp_path).compile(kind, graph)
    return failed.value.what


def test_the_operator_that_openvino_converts_wrongly_is_named_not_the_one_after_it(
    tmp_path: Path,
) -> None:
    maker = GraphMaker("length", 16)
    maker.node("MatMul", maker.weight(16, 16, name="first.weight"))
    in_layer(maker, "first")
    maker.node("Unsqueeze", maker.constant([-1], "last"))
    maker.node("DFT", "", maker.constant(np.int64(1), "axis"), onesided=1, name="node_dft")
    in_layer(maker, "mixer")
    maker.node("Gather", maker.constant(np.int64(0), "real"), axis=-1)
    maker.node("MatMul", maker.weight(16, 3, name="head.weight"))
    in_layer(maker, "head")
    said = refused(tmp_path, "openvino-cpu", maker.model("half", 3))
    assert "DFT (layer 'mixer') the shape" in said
    assert said.endswith("(?, ?, 16, 1, 2), where ONNX defines (?, ?, 16, 2)")
    assert "head" not in said


@pytest.mark.parametrize("kind", ["openvino-cpu", "onnxruntime-cpu"])
@pytest.mark.parametrize("layer", ["encoder.head", ""])
def test_a_product_of_sizes_that_do_not_fit_is_named_by_its_layer(
    tmp_path: Path, kind: str, layer: str
) -> None:
    maker = GraphMaker(16)
    maker.node("MatMul", maker.weight(16, 16, name="first.weight"))
    in_layer(maker, "first")
    maker.node("MatMul", maker.weight(7, 3), name="node_linear_1")
    if layer:
        in_layer(maker, layer)
    said = refused(tmp_path, kind, maker.model(3))
    place = f"layer '{layer}'" if layer else "node 'node_linear_1', after layer 'first'"
    assert said.startswith(("OpenVINO can't convert the graph: MatMul", "ONNX Runtime refuses"))
    assert place in said


def test_an_operator_that_openvino_does_not_have_is_named_with_its_layer(tmp_path: Path) -> None:
    maker = GraphMaker(4, 4)
    maker.node("Relu")
    maker.node("Det")
    in_layer(maker, "volume")
    said = refused(tmp_path, "openvino-cpu", maker.model())
    assert said.endswith("OpenVINO has no operator 'Det' (layer 'volume')")
