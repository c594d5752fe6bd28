"""static-int8 by both engines, on both runtimes: graphs that one of the tools alone gets wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from made_graphs import GraphBench, GraphMaker, decibels, onnxruntime_outputs, samples
from prefect_hone.ray_workers.model.axes import Varying
from prefect_hone.ray_workers.model.onnx_export import to_onnx
from prefect_hone.ray_workers.model.sqnr import sqnr_db
from prefect_hone.ray_workers.model.tracing import trace
from prefect_hone.recipe.passes import AccuracyControl, StaticInt8
from prefect_hone.tasks.compress.schemes import runners
from prefect_hone.tasks.compress.schemes.accuracy import control, put_back, quantized_layers
from prefect_hone.tasks.compress.schemes.job import QuantizeJob

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


def resized() -> Any:
    """With a Resize by scales, which symbolic shape inference does not know."""
    maker = GraphMaker(1, 8, 8)
    maker.convolution(1, 8, strides=[2, 2])
    maker.node("Relu")
    scales = maker.constant([1.0, 1.0, 2.0, 2.0], "scales", "float32")
    maker.node("Resize", "", scales, mode="linear")
    maker.convolution(8, 2)
    return maker.model(2, "height", "width")


def test_a_resize_by_scales_that_symbolic_shape_inference_does_not_know(
    bench: GraphBench, engine: str
) -> None:
    assert worst(bench, resized(), samples(1, 8, 8), engine) > 25


def test_a_shape_inference_that_fails_leaves_no_graph_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    def incomplete(self: Any, *_: Any) -> bool:
        self.run_ = False
        return False

    monkeypatch.setattr(SymbolicShapeInference, "_infer_impl", incomplete)
    graph = resized()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    onnx.save(graph, tmp_path / "graph.onnx")
    job = QuantizeJob(tmp_path / "graph.onnx", graph, tmp_path, {}, [])
    assert job.prepared().exists()
    assert list((tmp_path / "here").iterdir()) == []


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


def test_outputs_larger_than_on_the_calibration_samples_are_not_cut(bench: GraphBench) -> None:
    """The last layer sums two inputs, each of which is in its range where their sum is not."""
    maker = GraphMaker(2)
    maker.node("Gemm", maker.constant([[1.0], [1.0]], "head.weight", "float32"))
    maker.node("Reshape", maker.constant([-1, 1, 1], "shape", "int64"))
    graph = maker.model(1, 1)
    calibration = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    made, _ = bench.quantize(graph, calibration, scheme="static-int8")
    larger = np.array([[1, 1], [-1, -1], [0.5, -0.5]], np.float32)
    assert min(decibels(graph, made, larger).values()) > 35


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid"])
def test_a_convolution_at_the_end_keeps_its_rounding_without_which_it_is_not_in_int8(
    bench: GraphBench, kind: str
) -> None:
    maker = GraphMaker(2, 6, 6)
    maker.convolution(2, 8)
    maker.node(kind)
    maker.node("Flatten")
    made, _ = bench.quantize(maker.model(8 * 36), samples(2, 6, 6), scheme="static-int8")
    rounded = [n.input[0] for n in made.graph.node if n.op_type == "QuantizeLinear"]
    makers = {n.output[0]: n.op_type for n in made.graph.node}
    assert [makers.get(name) for name in rounded if name != "input"] == ["Conv"]


def test_a_bias_of_many_normalizations_whose_copies_have_the_name_of_another_value(
    bench: GraphBench,
) -> None:
    maker = GraphMaker(4, 6, 6)
    scale, bias = (
        maker.constant([1.0] * 4, "s", "float32"),
        maker.constant([0.1] * 4, "b", "float32"),
    )
    for place in range(4):
        maker.convolution(4, 4)
        if place == 3:
            maker.nodes[-1].output[0] = maker.last = "b1"
        maker.node("InstanceNormalization", scale, bias)
    assert worst(bench, maker.model(4, 6, 6), samples(4, 6, 6), "onnxruntime") > 15


@pytest.mark.parametrize("kind", ["Relu", "Clip"])
def test_an_activation_at_the_end_stays(bench: GraphBench, engine: str, kind: str) -> None:
    """The rounding that ONNX Runtime's quantizer puts in its place is not there at the end."""
    maker = GraphMaker(8)
    maker.linear(8, 8)
    maker.node("Relu")
    maker.linear(8, 4)
    bounds = [maker.constant(np.float32(value)) for value in (-0.5, 0.5)]
    maker.node(kind, *(bounds if kind == "Clip" else ()))
    assert worst(bench, maker.model(4), samples(8), engine) > 25


def test_only_layers_compute_in_int8_where_the_operators_between_them_lose_too_much(
    bench: GraphBench,
) -> None:
    """Products of very different sizes, which a division makes alike."""
    maker = GraphMaker(13)
    maker.linear(13, 16)
    sizes = maker.constant(np.logspace(-3, 3, 16), "sizes", "float32")
    maker.node("Mul", sizes)
    maker.node("Div", sizes)
    maker.linear(16, 4)
    graph, inputs = maker.model(4), samples(13)
    reached = {}
    for operators in ("all", "layers", "auto"):
        made, done = bench.quantize(graph, inputs, scheme="static-int8", operators=operators)
        reached[operators] = decibels(graph, made, inputs)["onnxruntime"]
    assert reached["layers"] > reached["all"] + 3
    assert reached["auto"] == reached["layers"]
    assert "only convolutions, matrix products and embeddings compute in int8" in done.notes[0]
    with pytest.raises(ValueError, match="engine nncf supports only operators: auto"):
        StaticInt8(kind="quantize", scheme="static-int8", engine="nncf", operators="layers")


def test_layers_of_either_engine_are_put_back_with_the_weights_that_they_had(
    bench: GraphBench, engine: str
) -> None:
    maker = GraphMaker(13)
    maker.linear(13, 32, "first")
    maker.node("Relu")
    maker.linear(32, 8, "second")
    graph, inputs = maker.model(8), samples(13)
    made, _ = bench.quantize(graph, inputs, scheme="static-int8", engine=engine)
    back = put_back(made, graph, quantized_layers(made))
    now = {i.name: onnx.numpy_helper.to_array(i) for i in back.graph.initializer}
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in graph.graph.initializer}
    found = [now[node.input[1]] for node in back.graph.node if node.op_type == "Gemm"]
    assert len(found) == 2
    for weight, name in zip(found, ("first.weight", "second.weight"), strict=True):
        assert np.array_equal(weight, weights[name])


def test_accuracy_control_looks_through_the_runtime_that_will_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenVINO is made wrong in int8 here: what it computes decides, whatever ONNX Runtime does."""
    maker = GraphMaker(13)
    maker.linear(13, 32)
    maker.node("Relu")
    maker.linear(32, 8)
    graph, inputs = maker.model(8), samples(13)
    quantized = with_int8_weights(graph)
    right = runners._openvino

    def wrong(source: bytes, names: Any) -> Any:
        run = right(source, names)
        nodes = onnx.load_from_string(source).graph.node
        is_int8 = any(node.op_type == "DequantizeLinear" for node in nodes)
        return (lambda batch: 0 * run(batch)) if is_int8 else run

    monkeypatch.setattr(runners, "_openvino", wrong)
    given = {"input": inputs}
    expected = runners.outputs_of(graph, given)

    def drop(runtimes: tuple[str, ...]) -> Any:
        return lambda made: max(
            10 ** (-sqnr_db(expected, runners.outputs_of(made, given, runtime=name)) / 20)
            for name in runtimes
        )

    limit = AccuracyControl(at_most=0.1)
    one, both = ("onnxruntime",), ("onnxruntime", "openvino")
    found = control(quantized, graph, given, drop(one), limit, lambda *_: None, one)
    assert found.holds
    assert not found.put_back
    found = control(quantized, graph, given, drop(both), limit, lambda *_: None, both)
    assert found.before == pytest.approx(1), "OpenVINO's outputs are nothing but error"
    assert set(found.sensitivity.values()) == {0.0}
    assert not found.holds


def with_int8_weights(graph: Any) -> Any:
    """Both weights in int8, one scale each."""
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    for node in [node for node in made.graph.node if node.op_type == "Gemm"]:
        item = next(i for i in made.graph.initializer if i.name == node.input[1])
        weight = onnx.numpy_helper.to_array(item)
        scale = np.float32(np.abs(weight).max() / 127)
        rounded = np.round(weight / scale).astype(np.int8)
        names = [f"{item.name}_int8", f"{item.name}_scale"]
        made.graph.initializer.extend(
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for value, name in zip((rounded, scale), names, strict=True)
        )
        node.input[1] = f"{item.name}_unpacked"
        made.graph.node.insert(
            0, onnx.helper.make_node("DequantizeLinear", names, [node.input[1]], node.input[1])
        )
    return made


class Relative(torch.nn.Module):
    """A bias of T5's kind: distances of tokens are put into buckets by their logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(8, 32), torch.nn.Linear(32, 8)
        self.table = torch.nn.Embedding(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.shape[1])
        distance = (places[None] - places[:, None]).abs()
        far = 8 + (torch.log(distance.float() / 8) / np.log(16) * 8).long()
        bucket = torch.where(distance < 8, distance, torch.clamp(far, max=15))
        return self.last(torch.relu(self.first(x + self.table(bucket).mean(1))))


@pytest.mark.parametrize("scheme", ["static-int8", "fp16"])
def test_integers_that_are_computed_from_floats_stay_exact(bench: GraphBench, scheme: str) -> None:
    """The logarithm of zero, which is not taken, spoilt every range: no run of the graph ended. In
    fp16, distances came into the bucket beside theirs.
    """
    torch.manual_seed(0)
    model = Relative().eval()
    torch.nn.init.normal_(model.table.weight, std=3)
    inputs = samples(64, 8, count=64)
    free = [Varying(input="input", axis=1, name="length", least=4, most=64)]
    graph = to_onnx(model, trace(model, {"input": inputs}, free))
    made, _ = bench.quantize(graph, inputs, scheme=scheme)
    least = {"static-int8": 25, "fp16": 60}[scheme]
    assert min(decibels(graph, made, inputs).values()) > least


class Reversible(torch.nn.Module):
    """Instance norm of a series, undone at the end: RevIN, https://openreview.net/forum?id=cGDAkQo1C0p."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(48, 32), torch.nn.Linear(32, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(1, keepdim=True)
        spread = torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)
        hidden = torch.relu(self.first(((x - mean) / spread).transpose(1, 2)))
        return self.last(hidden).transpose(1, 2) * spread + mean


class Normed(torch.nn.Module):
    """A norm that is written out, and two layers."""

    def __init__(self, norm: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.norm = norm
        self.first, self.last = torch.nn.Linear(48, 32), torch.nn.Linear(32, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(self.norm(x.transpose(1, 2)))))


def mean_of(x: torch.Tensor) -> torch.Tensor:
    return x.mean(-1, keepdim=True)


NORMS: dict[str, Callable[[], torch.nn.Module]] = {
    "RevIN": Reversible,
    # https://arxiv.org/abs/1910.07467
    "RMSNorm": lambda: Normed(lambda x: x * torch.rsqrt(mean_of(x.pow(2)) + 1e-6)),
    "normalize": lambda: Normed(lambda x: torch.nn.functional.normalize(x, dim=-1)),
    "standard": lambda: Normed(lambda x: (x - mean_of(x)) / (x.std(-1, keepdim=True) + 1e-5)),
    "absolute": lambda: Normed(lambda x: x / mean_of(x.abs())),
    "range": lambda: Normed(
        lambda x: (x - x.amin(-1, True)) / (x.amax(-1, True) - x.amin(-1, True) + 1e-6)
    ),
}


@pytest.mark.parametrize(
    ("norm", "engine"),
    [*((norm, "onnxruntime") for norm in NORMS), ("RevIN", "nncf"), ("RMSNorm", "nncf")],
)
def test_a_norm_that_is_written_out_knows_quiet_samples(
    bench: GraphBench, norm: str, engine: str
) -> None:
    """Samples are up to 1000 times as loud as others: in one scale, the squares of these were 0."""
    if engine == "nncf":
        pytest.importorskip("nncf")
    torch.manual_seed(0)
    model = NORMS[norm]().eval()
    loud = torch.logspace(-1, 2, 64)[torch.randperm(64)][:, None, None]
    series = torch.randn(64, 48, 3) * loud + 5 * loud * torch.randn(64, 1, 3)
    graph = to_onnx(model, trace(model, {"input": series.numpy()}))
    made, _ = bench.quantize(graph, series.numpy(), scheme="static-int8", engine=engine)
    expected, found = (onnxruntime_outputs(g, series.numpy()) for g in (graph, made))
    assert min(sqnr_db(a, b) for a, b in zip(expected, found, strict=True)) > 25


def test_nncf_does_without_its_correction_of_biases_where_it_fails(bench: GraphBench) -> None:
    """Of a product whose weight comes first, as in mixers of tokens."""
    pytest.importorskip("nncf")
    maker = GraphMaker(12, 32)
    maker.node("MatMul", maker.weight(32, 32))
    value = maker.last
    maker.last = maker.weight(12, 12)
    maker.node("MatMul", value)
    maker.node("Add", maker.weight(1))
    maker.node("Relu")
    maker.node("MatMul", maker.weight(32, 32))
    graph, inputs = maker.model(12, 32), samples(12, 32)
    made, done = bench.quantize(graph, inputs, scheme="static-int8", engine="nncf")
    assert "NNCF's correction of biases failed, and was left out" in done.notes
    assert min(decibels(graph, made, inputs).values()) > 25
