"""static-int8 by both engines, on both runtimes: graphs that one of the tools alone gets wrong."""

from __future__ import annotations

import pytest
from made_graphs import GraphBench, GraphMaker, decibels, samples

ENGINES = ("onnxruntime", "nncf")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> GraphBench:
    return GraphBench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "nncf":
        pytest.importorskip("nncf")
    return str(request.param)


def worst(bench: GraphBench, graph: object, inputs: object, engine: str) -> float:
    """The lower SQNR (dB) of the two runtimes."""
    made, _ = bench.quantize(graph, inputs, scheme="static-int8", engine=engine, reduce_range=True)
    return min(decibels(graph, made, inputs).values())


def test_a_resize_by_scales_that_symbolic_shape_inference_does_not_know(
    bench: GraphBench, engine: str
) -> None:
    maker = GraphMaker(1, 8, 8)
    maker.convolution(1, 8, strides=[2, 2])
    maker.node("Relu")
    scales = maker.constant([1.0, 1.0, 2.0, 2.0], "scales", "float32")
    maker.node("Resize", "", scales, mode="linear")
    maker.convolution(8, 2)
    assert worst(bench, maker.model(2, "height", "width"), samples(1, 8, 8), engine) > 25


def test_a_mean_over_tokens_is_not_rounded_where_openvino_would_lose_everything(
    bench: GraphBench, engine: str
) -> None:
    maker = GraphMaker(10, 16)
    maker.node("MatMul", maker.weight(16, 32))
    maker.node("Relu")
    maker.node("MatMul", maker.weight(32, 32))
    scale, bias = (maker.constant([value] * 32, name, "float32")
                   for value, name in ((1, "norm.weight"), (0.1, "norm.bias")))  # fmt: skip
    maker.node("LayerNormalization", scale, bias)
    maker.node("ReduceMean", maker.constant([1], "axes", "int64"), keepdims=0)
    maker.linear(32, 5)
    assert worst(bench, maker.model(5), samples(10, 16), engine) > 20


def test_a_block_that_is_called_four_times_has_one_bias_for_each_call(
    bench: GraphBench, engine: str
) -> None:
    maker = GraphMaker(8, 6, 6)
    for _ in range(4):
        before = maker.last
        maker.convolution(8, 8, "block")
        maker.node("Relu")
        maker.node("Add", before)
    graph = maker.model(8, 6, 6)
    inputs = samples(8, 6, 6)
    made, _ = bench.quantize(graph, inputs, scheme="static-int8", engine=engine, reduce_range=True)
    assert min(decibels(graph, made, inputs).values()) > 25
    weights = [item for item in made.graph.initializer if list(item.dims) == [8, 8, 3, 3]]
    assert len(weights) == 1, "the weight is stored once again"


def test_ranges_hold_every_sample_and_not_the_mean_of_their_extremes(
    bench: GraphBench, engine: str
) -> None:
    maker = GraphMaker(13)
    maker.linear(13, 64)
    maker.node("Relu")
    maker.linear(64, 64)
    maker.node("Relu")
    maker.linear(64, 1)
    assert worst(bench, maker.model(1), samples(13, count=128), engine) > 25
