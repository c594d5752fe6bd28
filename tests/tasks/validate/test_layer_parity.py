"""Layer parity: the layer that was broken is the one that is named."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from prefect_hone.tasks.specs.layer_parity import LayerParity
from prefect_hone.tasks.validate.layer_parity import departure, layer_parity

WIDTH, LAYERS = 16, 6


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    made = np.random.default_rng(seed)
    return {
        f"l{i}.weight": (made.normal(size=(WIDTH, WIDTH)) / 4).astype(np.float32)
        for i in range(LAYERS)
    }


def graph(values: dict[str, np.ndarray]) -> Any:
    """Linear layers with ReLU and a residual connection around each second one."""
    nodes, x = [], "x"
    for i in range(LAYERS):
        product = helper.make_node("MatMul", [x, f"l{i}.weight"], [f"p{i}"], name=f"matmul{i}")
        entry = product.metadata_props.add()
        entry.key, entry.value = "hone.layer", f"l{i}"
        relu = helper.make_node("Relu", [f"p{i}"], [f"r{i}"], name=f"relu{i}")
        nodes += [product, relu]
        if i % 2:
            nodes.append(helper.make_node("Add", [f"r{i}", x], [f"a{i}"], name=f"add{i}"))
        x = f"a{i}" if i % 2 else f"r{i}"
    nodes[-1].output[0] = "output"
    return model_of(nodes, values)


def model_of(nodes: list[Any], constants: dict[str, np.ndarray]) -> Any:
    """From `x` to `output`, both (N, WIDTH)."""
    sides = ["batch", WIDTH]
    return helper.make_model(
        helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, sides)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )  # fmt: skip


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(20, WIDTH)).astype(np.float32)}


def noisy(values: dict[str, np.ndarray], db: float) -> dict[str, np.ndarray]:
    """Weights with the noise that a quantization of so many dB would add."""
    made = np.random.default_rng(2)
    share = 10 ** (-db / 20)
    return {
        n: (v + share * v.std() * made.normal(size=v.shape)).astype(np.float32)
        for n, v in values.items()
    }


@pytest.mark.parametrize("broken", range(LAYERS))
def test_the_broken_layer_is_named(inputs: dict[str, np.ndarray], broken: int) -> None:
    plain = weights()
    changed = noisy(plain, 35)
    changed[f"l{broken}.weight"] = weights(9)[f"l{broken}.weight"]
    found = departure(layer_parity(graph(plain), graph(changed), inputs))
    assert found is not None
    assert found.layer == f"l{broken}"
    assert f"layer l{broken}: " in str(found)


def test_noise_that_only_adds_up_is_no_departure(inputs: dict[str, np.ndarray]) -> None:
    layers = layer_parity(graph(weights()), graph(noisy(weights(), 35)), inputs)
    assert {layer.layer for layer in layers} >= {f"l{i}" for i in range(LAYERS)}
    assert departure(layers) is None
    assert all(15 < layer.sqnr_db < 60 for layer in layers)


def test_the_same_graph_is_exact(inputs: dict[str, np.ndarray]) -> None:
    layers = layer_parity(graph(weights()), graph(weights()), inputs)
    assert {layer.sqnr_db for layer in layers} == {200.0}
    assert departure(layers) is None


def test_graphs_with_nothing_in_common_are_not_compared(inputs: dict[str, np.ndarray]) -> None:
    other = graph(weights())
    for node in other.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if not name.startswith(("l", "x")):
                    names[i] = f"other_{name}"
    other.graph.output[0].name = "other_output"
    onnx.checker.check_model(other)
    assert layer_parity(graph(weights()), other, inputs) == []


def test_what_is_above_exact_or_below_nothing_does_not_count() -> None:
    assert LayerParity(layer="a", sqnr_db=45, before_db=200).lost_db == 5
    assert LayerParity(layer="a", sqnr_db=-30, before_db=20).lost_db == 20


def test_what_the_next_layer_does_not_lack_is_not_lost() -> None:
    masked = LayerParity(layer="mask", sqnr_db=0, before_db=73, after_db=70)
    softmax = LayerParity(layer="softmax", sqnr_db=70, before_db=0, after_db=68)
    assert masked.lost_db < 0
    assert departure([masked, softmax]) is None
    broken = LayerParity(layer="conv", sqnr_db=0, before_db=73, after_db=12)
    assert departure([masked, softmax, broken]) == broken


def test_a_mask_that_fp16_cannot_hold_is_no_departure() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "l0.weight"], ["scores"], name="scores"),
        helper.make_node("Where", ["kept", "scores", "low"], ["masked"], name="mask"),
        helper.make_node("Softmax", ["masked"], ["output"], name="softmax"),
    ]
    for node in nodes:
        entry = node.metadata_props.add()
        entry.key, entry.value = "hone.layer", node.name

    def masked(low: float) -> Any:
        constants = {"l0.weight": weights()["l0.weight"], "low": np.array(low, np.float32),
                     "kept": np.arange(WIDTH) % 3 > 0}  # fmt: skip
        return model_of(copy.deepcopy(nodes), constants)

    x = np.random.default_rng(1).normal(size=(20, WIDTH)).astype(np.float32)
    layers = layer_parity(masked(-1e9), masked(-65504.0), {"x": x})
    assert min(layer.sqnr_db for layer in layers) < 1
    assert departure(layers) is None
