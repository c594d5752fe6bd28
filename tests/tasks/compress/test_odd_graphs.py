"""Odd but legal ONNX: each graph is quantized rightly by every scheme, or told in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_graphs import GraphBench, GraphMaker, decibels, onnxruntime_outputs, samples
from onnx import TensorProto, helper, numpy_helper
from prefect_hone.ray_workers.model.float32_form import has_other_floats
from prefect_hone.ray_workers.model.regular_graph import regular
from prefect_hone.ray_workers.model.sqnr import sqnr_db
from prefect_hone.recipe.errors import InputError, NothingChanged

SCHEMES: tuple[dict[str, Any], ...] = (
    {"scheme": "static-int8", "reduce_range": True},
    {"scheme": "dynamic-int8", "reduce_range": True},
    {"scheme": "weight-int8"},
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> GraphBench:
    return GraphBench(tmp_path_factory.mktemp("bench"))


def mlp() -> GraphMaker:
    maker = GraphMaker(13)
    maker.linear(13, 64, "first")
    maker.node("Relu")
    maker.linear(64, 16, "second")
    return maker


def constants_are_inputs() -> Any:
    model = mlp().model(16, opset=11, ir_version=3)
    value = helper.make_tensor_value_info
    model.graph.input.extend(
        value(item.name, item.data_type, item.dims) for item in model.graph.initializer
    )
    return model


def biases_have_two_axes() -> Any:
    model = mlp().model(16)
    for item in model.graph.initializer:
        if item.name.endswith("bias"):
            item.dims.insert(0, 1)
    return model


def weights_are_constant_nodes() -> Any:
    model = mlp().model(16)
    made = [helper.make_node("Constant", [], [i.name], value=i) for i in model.graph.initializer]
    del model.graph.initializer[:]
    for node in reversed(made):
        model.graph.node.insert(0, node)
    return model


def layers_are_local_functions() -> Any:
    model = mlp().model(16)
    opsets = [helper.make_opsetid("", 20)]
    body = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "inner", transB=1)]
    dense = helper.make_function("local", "Dense", ["x", "w", "b"], ["y"], body, opsets)
    model.functions.append(dense)
    model.opset_import.append(helper.make_opsetid("local", 1))
    for node in model.graph.node:
        if node.op_type == "Gemm":
            node.op_type, node.domain = "Dense", "local"
            del node.attribute[:]
    return model


def half_weights() -> Any:
    model = mlp().model(16)
    for item in model.graph.initializer:
        half = numpy_helper.to_array(item).astype(np.float16)
        item.CopyFrom(numpy_helper.from_array(half, item.name))
    make = helper.make_node
    first, last = model.graph.node[0], model.graph.node[-1]
    first.input[0], last.output[0] = "half_input", "half_output"
    model.graph.node.insert(0, make("Cast", ["input"], ["half_input"], to=TensorProto.FLOAT16))
    model.graph.node.append(make("Cast", ["half_output"], ["output"], to=TensorProto.FLOAT))
    return model


def opset_nine() -> Any:
    """Upsample, Slice, Clip, Pad, Squeeze and Softmax as opset 9 has them."""
    maker = GraphMaker(1, 6, 6)
    maker.convolution(1, 32, kernel=1)
    maker.node("Upsample", maker.constant([1, 1, 2, 2], "scales", "float32"), mode="nearest")
    maker.node("Slice", starts=[0, 1], ends=[100, 11], axes=[2, 3])
    maker.node("Clip", min=0.0, max=6.0)
    maker.node("Pad", pads=[0, 0, 0, 1, 0, 0, 0, 1])
    maker.node("GlobalAveragePool")
    maker.node("Squeeze", axes=[2, 3])
    maker.node("Dropout", ratio=0.5)
    maker.linear(32, 32)
    maker.node("Softmax", axis=1)
    return maker.model(32, opset=9, ir_version=4)


ODD = {
    "constants among the inputs": (constants_are_inputs, (13,)),
    "biases of two axes": (biases_have_two_axes, (13,)),
    "weights in Constant nodes": (weights_are_constant_nodes, (13,)),
    "local functions": (layers_are_local_functions, (13,)),
    "fp16 weights": (half_weights, (13,)),
    "opset 9": (opset_nine, (1, 6, 6)),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("fields", SCHEMES, ids=lambda fields: fields["scheme"])
def test_odd_graphs_are_quantized_rightly_on_both_runtimes(
    bench: GraphBench, odd: str, fields: dict[str, Any]
) -> None:
    make, shape = ODD[odd]
    inputs = samples(*shape)
    made, done = bench.quantize(make(), inputs, **fields)
    reached = decibels(make(), made, inputs)
    assert min(reached.values()) > 25, reached
    assert done.metrics["quantize/coverage"] > 0.9 or odd == "opset 9"


@pytest.mark.parametrize("odd", ODD)
def test_the_regular_form_computes_the_same(odd: str) -> None:
    make, shape = ODD[odd]
    inputs = samples(*shape)
    expected = onnxruntime_outputs(make(), inputs)
    found = onnxruntime_outputs(regular(make(), "here"), inputs)
    assert sqnr_db(expected, found) > 60


def test_a_softmax_of_old_opsets_is_over_all_axes_from_its_own_on() -> None:
    maker = GraphMaker(3, 4)
    maker.node("Softmax", axis=1)
    model = maker.model(3, 4, opset=11, ir_version=6)
    inputs = samples(3, 4)
    expected = onnxruntime_outputs(model, inputs)
    assert np.allclose(expected.sum(axis=(1, 2)), 1, atol=1e-5)
    assert np.allclose(onnxruntime_outputs(regular(model, "here"), inputs), expected, atol=1e-6)


def test_an_opset_that_is_too_old_is_told() -> None:
    with pytest.raises(InputError, match="uses opset 6; the oldest that can be compressed is 7"):
        regular(mlp().model(16, opset=6), "model.onnx")


def conditional() -> Any:
    """All weights are in the branches of an If."""
    branches = {}
    for name, seed in (("then_branch", 0), ("else_branch", 1)):
        maker = GraphMaker(13, seed=seed)
        maker.node("MatMul", maker.weight(13, 64, name=f"{name}.weight"))
        maker.nodes[-1].output[0] = name
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64])
        branches[name] = helper.make_graph(maker.nodes, name, [], [value], maker.constants)
    outer = GraphMaker(13)
    outer.node("ReduceSum", keepdims=0)
    outer.node("Greater", outer.constant(0.0, "zero", "float32"))
    condition = outer.last
    outer.nodes.append(helper.make_node("If", [condition], ["output"], "choice", **branches))
    return outer.model(64)


@pytest.mark.parametrize("scheme", ["weight-int8", "dynamic-int8"])
def test_weights_in_the_bodies_of_an_if_are_quantized(bench: GraphBench, scheme: str) -> None:
    inputs = samples(13)
    made, done = bench.quantize(conditional(), inputs, scheme=scheme)
    expected = onnxruntime_outputs(conditional(), inputs)
    assert sqnr_db(expected, onnxruntime_outputs(made, inputs)) > 30
    assert done.metrics["quantize/coverage"] == 1


def test_a_scheme_that_does_not_reach_bodies_says_so(bench: GraphBench) -> None:
    with pytest.raises(NothingChanged, match=r"bodies of If, Loop or Scan.*static-int8") as caught:
        bench.quantize(conditional(), samples(13), scheme="static-int8")
    assert caught.value.do == "use scheme weight-int8"


def recurrent() -> Any:
    maker = GraphMaker(12, 4)
    maker.node("Transpose", perm=[1, 0, 2])
    weights = [maker.weight(1, 96, 4, name="w"), maker.weight(1, 96, 24, name="r")]
    maker.node("LSTM", *weights, hidden_size=24)
    maker.node("Squeeze", maker.constant([1], "axes", "int64"))
    maker.node("Transpose", perm=[1, 0, 2])
    return maker.model(12, 24)


def test_recurrent_layers_get_integer_weights_or_are_named(bench: GraphBench) -> None:
    inputs = samples(12, 4)
    made, done = bench.quantize(recurrent(), inputs, scheme="weight-int8")
    assert min(decibels(recurrent(), made, inputs).values()) > 30
    assert done.metrics["quantize/coverage"] == 1
    with pytest.raises(NothingChanged, match=r"layers are recurrent \(LSTM\)"):
        bench.quantize(recurrent(), inputs, scheme="static-int8")


def test_weights_that_are_too_small_are_named_with_their_size(bench: GraphBench) -> None:
    maker = GraphMaker(4)
    maker.linear(4, 8, "small")
    with pytest.raises(NothingChanged, match="32 weights, and fewer than 512 aren't worth"):
        bench.quantize(maker.model(8), samples(4), scheme="weight-int8")


def test_layers_left_alone_are_noted_with_their_reason(bench: GraphBench) -> None:
    maker = GraphMaker(1, 6, 6)
    maker.convolution(1, 32, "stem")
    maker.node("GlobalAveragePool")
    maker.node("Flatten")
    maker.linear(32, 32, "head")
    inputs = samples(1, 6, 6)
    _, done = bench.quantize(maker.model(32), inputs, scheme="dynamic-int8")
    assert "1 of 2 layers were not quantized: Conv_0 (dynamic-int8 does not quantize " in str(
        done.notes
    )
    assert done.metrics["quantize/coverage"] == pytest.approx(1024 / (1024 + 288))
    left = [layer for layer in done.facts["coverage"]["layers"] if layer["left_because"]]
    assert [layer["layer"] for layer in left] == ["Conv_0"]


def test_fp16_of_a_model_in_fp16_is_no_compression(bench: GraphBench) -> None:
    assert has_other_floats(half_weights()) == "float16"
    with pytest.raises(NothingChanged, match="the weights are float16 already"):
        bench.quantize(half_weights(), samples(13), scheme="fp16")


def test_a_model_may_have_no_layer_of_any_kind(bench: GraphBench) -> None:
    maker = GraphMaker(4)
    maker.node("Relu")
    with pytest.raises(NothingChanged, match=r"nothing to quantize.*Relu"):
        bench.quantize(maker.model(4), samples(4), scheme="static-int8")


def test_fp16_casts_what_an_operator_reads_that_has_no_fp16_kernel(bench: GraphBench) -> None:
    """A degree of a graph's node, at least one: the converter leaves Max in fp32, and did not know the
    type of what it reads.
    """
    maker = GraphMaker(12, 32)
    maker.node("MatMul", maker.weight(32, 32))
    value = maker.last
    maker.node("ReduceSum", maker.constant([2]), keepdims=1)
    maker.node("Max", maker.constant(np.float32(1)))
    count = maker.last
    maker.last = value
    maker.node("Div", count)
    maker.node("MatMul", maker.weight(32, 32))
    graph, inputs = maker.model(12, 32), samples(12, 32)
    del graph.graph.value_info[:]
    made, _ = bench.quantize(graph, inputs, scheme="fp16")
    assert min(decibels(graph, made, inputs).values()) > 50


@pytest.mark.parametrize("operator", ["ScatterND", "ScatterElements"])
def test_fp16_of_rows_that_are_added_up(bench: GraphBench, operator: str) -> None:
    """As experts' and neighbours' are: the kernel for fp16 refuses to while it runs."""
    maker = GraphMaker(12, 32)
    maker.node("MatMul", maker.weight(32, 32))
    rows = maker.last
    places = np.array([[[0, 0], [0, 3], [0, 0]]]) if operator == "ScatterND" else (
        np.zeros((1, 3, 32)))  # fmt: skip
    updates = np.ones((1, 3, 32), np.float32)
    if operator == "ScatterND":
        places, updates = places[0], updates[0]
    maker.node(
        operator, maker.constant(places.astype(np.int64)), maker.constant(updates), reduction="add"
    )
    maker.node("Add", rows)
    maker.node("MatMul", maker.weight(32, 32))
    graph, inputs = maker.model(12, 32), samples(12, 32)
    made, _ = bench.quantize(graph, inputs, scheme="fp16")
    assert min(decibels(graph, made, inputs).values()) > 50
