"""What a pass tells of the layers that it left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from prefect_hone.ray_workers.workspace import Result
from prefect_hone.tasks.compress.coverage import of_quantization, tell
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


@pytest.mark.parametrize(
    ("between", "is_int8"),
    [("Transpose", True), ("Reshape", True), ("Tanh", False)],
)
def test_a_layer_whose_inputs_are_only_moved_after_they_were_unpacked_is_int8(
    tmp_path: Path, between: str, is_int8: bool
) -> None:
    """As ONNX Runtime computes it: it unpacks behind what only moves numbers."""
    weights = np.random.default_rng(0).integers(-100, 100, (8, 20, 5)).astype(np.int8)
    constants = {
        "w8": weights, "scale": np.float32(0.02), "zero": np.uint8(128), "wzero": np.int8(0),
        "sizes": np.array([0, 20, -1], np.int64),
    }  # fmt: skip
    moves = {
        "Transpose": helper.make_node("Transpose", ["d"], ["t"], perm=[0, 2, 1]),
        "Reshape": helper.make_node("Reshape", ["d", "sizes"], ["t"]),
        "Tanh": helper.make_node("Tanh", ["d"], ["t"]),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        moves[between],
        helper.make_node("DequantizeLinear", ["w8", "scale", "wzero"], ["w"]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "scale", "zero"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "scale", "zero"], ["output"]),
    ]
    shape = ["batch", 20, 24] if between == "Tanh" else ["batch", 24, 20]
    made = helper.make_model(
        helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )  # fmt: skip
    job = SimpleNamespace(graph=made, large=False)
    coverage = of_quantization(job, made, "static-int8", {}, 8)  # type: ignore[arg-type]
    (layer,) = coverage.layers
    assert (layer.weights, layer.left_because is None) == (800, is_int8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(made.SerializeToString(), options)
    kinds = {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}
    assert ("QLinearConv" in kinds) == is_int8
