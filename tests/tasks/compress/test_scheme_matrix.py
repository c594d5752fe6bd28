"""Every quantization scheme through every runtime: near enough, or refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_graphs import GraphBench, GraphMaker, onnxruntime_outputs, samples
from onnx import TensorProto
from prefect_hone.ray_workers.model.sqnr import sqnr_db
from prefect_hone.recipe.errors import StepFailed

ORT, OV = "onnxruntime-cpu", "openvino-cpu"


def perceptron() -> Any:
    maker = GraphMaker(32)
    maker.linear(32, 64, "first")
    maker.node("Relu")
    maker.linear(64, 16, "head")
    return maker.model(16)


def convolutions() -> Any:
    maker = GraphMaker(4, 8, 8)
    maker.convolution(4, 16, "stem")
    maker.node("Relu")
    maker.convolution(16, 16, "middle")
    maker.node("Relu")
    maker.node("ReduceMean", maker.constant([2, 3], "axes"), keepdims=0)
    maker.linear(16, 32, "head")
    return maker.model(32)


def attention() -> Any:
    maker = GraphMaker(12, 32)
    query, key, value = (_projected(maker, name) for name in ("query", "key", "value"))
    maker.last = key
    turned = maker.node("Transpose", perm=[0, 2, 1])
    maker.last = query
    maker.node("MatMul", turned)
    maker.node("Mul", maker.constant(np.float32(32**-0.5), "scale"))
    maker.node("Softmax", axis=-1)
    maker.node("MatMul", value)
    maker.node("MatMul", maker.weight(32, 32, name="output.weight"))
    maker.node("Add", "input")
    return maker.model(12, 32)


def _projected(maker: GraphMaker, name: str) -> str:
    maker.last = "input"
    return maker.node("MatMul", maker.weight(32, 32, name=f"{name}.weight"))


def language() -> Any:
    """Of tokens: an output layer tied to the embedding, a block that is used twice, a product with
    a stack of matrices, and one whose weight comes first.
    """
    maker = GraphMaker(12)
    tokens = maker.node("Cast", to=TensorProto.INT64)
    maker.last = maker.weight(32, 32, name="embedding.weight")
    maker.node("Gather", tokens)
    for bias in (maker.weight(32), maker.weight(1, 32)):
        maker.node("MatMul", maker.weight(32, 32, name="block.weight"))
        maker.node("Add", bias)
        maker.node("Relu")
    maker.node("MatMul", maker.weight(1, 32, 32, name="stack.weight"))
    mixed = maker.last
    maker.last = maker.weight(12, 12, name="tokens.weight")
    maker.node("MatMul", mixed)
    maker.node("ReduceMean", maker.constant([1], "axes"), keepdims=0)
    maker.node("Gemm", "embedding.weight", transB=1)
    return maker.model(32)


def tokens() -> Any:
    return np.random.default_rng(1).integers(32, size=(64, 12)).astype(np.float32)


MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "perceptron": (perceptron, (32,)),
    "convolutions": (convolutions, (4, 8, 8)),
    "attention": (attention, (12, 32)),
    "language": (language, (12,)),
}
INT4 = {"scheme": "weight-int4", "group_size": 16}
#: Each scheme, and the least SQNR (dB) by target; or what refuses it.
SCHEMES: dict[str, tuple[dict[str, Any], dict[str, float | str]]] = {
    "static-int8": ({"scheme": "static-int8"}, {ORT: 25, OV: 25}),
    "static-int8 s8": (
        {"scheme": "static-int8", "activations": "s8", "symmetric": True}, {ORT: 25, OV: 25}
    ),
    "static-int8 per tensor": ({"scheme": "static-int8", "per_channel": False}, {ORT: 25, OV: 25}),
    "static-int8 percentile": (
        {"scheme": "static-int8", "calibration": "percentile"}, {ORT: 20, OV: 20}
    ),
    "static-int8 nncf": ({"scheme": "static-int8", "engine": "nncf"}, {ORT: 25, OV: 25}),
    "dynamic-int8": ({"scheme": "dynamic-int8"}, {ORT: 25, OV: 25}),
    "weight-int8": ({"scheme": "weight-int8"}, {ORT: 30, OV: 30}),
    "weight-int4": (INT4, {ORT: 15, OV: 15}),
    "fp16": ({"scheme": "fp16"}, {ORT: 50, OV: 50}),
    "bf16": ({"scheme": "bf16"}, {ORT: "no bf16 kernels", OV: 30}),
    "fp8": ({"scheme": "fp8"}, {ORT: "does not support fp8", OV: "does not support fp8"}),
}  # fmt: skip
QUICK = {
    ("static-int8", "perceptron"),
    ("weight-int4", "convolutions"),
    ("weight-int4", "language"),
    ("dynamic-int8", "language"),
    ("weight-int8", "attention"),
    ("fp16", "convolutions"),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> GraphBench:
    return GraphBench(tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize(
    ("scheme", "model"),
    [
        pytest.param(
            scheme, model, id=f"{scheme}, {model}",
            marks=() if (scheme, model) in QUICK else pytest.mark.slow,
        )
        for scheme in SCHEMES
        for model in MODELS
    ],
)  # fmt: skip
def test_a_scheme_is_near_enough_on_each_runtime_or_refused(
    bench: GraphBench, scheme: str, model: str
) -> None:
    fields, limits = SCHEMES[scheme]
    if fields.get("engine") == "nncf" or fields["scheme"] == "weight-int4":
        pytest.importorskip("nncf")
    make, shape = MODELS[model]
    graph, inputs = make(), (tokens() if model == "language" else samples(*shape, count=64))
    compressed, _ = bench.quantize(graph, inputs, **fields)
    expected = onnxruntime_outputs(graph, inputs)
    for target, limit in limits.items():
        if isinstance(limit, str):
            with pytest.raises(StepFailed, match=limit):
                bench.compile(target, compressed)
        else:
            found = sqnr_db(expected, bench.served(target, compressed, inputs))
            assert found > limit, f"{target}: {found:.1f} dB"


def test_int4_packs_what_tokens_lead_to_and_says_what_not(bench: GraphBench) -> None:
    """NNCF packed embeddings, too: no runtime took the graph of any language model."""
    pytest.importorskip("nncf")
    graph, inputs = language(), tokens()
    compressed, done = bench.quantize(graph, inputs, **INT4)
    kinds = [node.op_type for node in compressed.graph.node]
    assert (kinds.count("MatMulNBits"), kinds.count("Gather")) == (3, 1)
    packed = [i.name for i in compressed.graph.initializer if i.data_type == TensorProto.UINT8]
    assert len(packed) == 2, "a block that is used twice is packed once"
    left = {one["layer"]: one["left_because"] for one in done.facts["coverage"]["layers"]}
    assert "its weight has 3 axes" in left.values()
    assert "its weight is the first of the two factors" in left.values()


def test_int4_leaves_layers_of_odd_widths_by_name(bench: GraphBench) -> None:
    pytest.importorskip("nncf")
    maker, inputs = GraphMaker(18), samples(18)
    maker.linear(18, 32, "first")
    maker.linear(32, 16, "second")
    graph = maker.model(16)
    compressed, done = bench.quantize(graph, inputs, scheme="weight-int4")
    told = " ".join(done.notes)
    assert "groups of 32 weights" in told
    assert "Gemm_0 (its 18 inputs are no multiple of groups of 32)" in told
    expected = onnxruntime_outputs(graph, inputs)
    assert sqnr_db(expected, onnxruntime_outputs(compressed, inputs)) > 15
    maker = GraphMaker(18)
    maker.linear(18, 4, "only")
    with pytest.raises(StepFailed, match=r"no layer has a multiple of that: 'Gemm_0' \(18\)"):
        bench.quantize(maker.model(4), inputs, scheme="weight-int4")
