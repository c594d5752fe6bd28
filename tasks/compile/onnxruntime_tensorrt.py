"""onnxruntime-tensorrt: ONNX Runtime's TensorRT execution provider. Never run on a GPU yet."""

from __future__ import annotations

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OnnxRuntimeTensorRt
from ...runtimes.onnxruntime_runtime import OnnxRuntimeSettings
from ...runtimes.onnxruntime_runtime import load as load
from ..specs.compile import CompileSpec
from . import Unavailable
from ._cuda import unavailable_cuda
from ._onnxruntime import rewrite


def availability(_target: OnnxRuntimeTensorRt) -> Unavailable | None:
    """None if there is a GPU, and an ONNX Runtime with TensorRT."""
    found: Unavailable | None = unavailable_cuda("onnxruntime", "TensorrtExecutionProvider")
    return found


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Input: `graph`. Output: `model`. The engine itself is built when it is loaded.

    Raises:
        StepFailed: ONNX Runtime refuses the graph.
    """
    target = work.spec.target
    assert isinstance(target, OnnxRuntimeTensorRt)  # noqa: S101 (narrows a type)
    settings = OnnxRuntimeSettings([
        ("TensorrtExecutionProvider", {"trt_fp16_enable": target.precision == "fp16"}),
        ("CUDAExecutionProvider", {}),
        ("CPUExecutionProvider", {}),
    ])  # fmt: skip
    result: Result = rewrite(work, target, "basic", settings)
    return result
