"""onnxruntime-cuda: ONNX Runtime's CUDA execution provider. Never run on a GPU yet."""

from __future__ import annotations

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OnnxRuntimeCuda
from ...runtimes.onnxruntime_runtime import OnnxRuntimeSettings
from ...runtimes.onnxruntime_runtime import load as load
from ..specs.compile import CompileSpec
from . import Unavailable
from ._cuda import unavailable_cuda
from ._onnxruntime import rewrite


def availability(_target: OnnxRuntimeCuda) -> Unavailable | None:
    """None if there is a GPU, and an ONNX Runtime that was built for it."""
    found: Unavailable | None = unavailable_cuda("onnxruntime", "CUDAExecutionProvider")
    return found


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Input: `graph`. Output: `model`.

    Raises:
        StepFailed: ONNX Runtime refuses the graph.
    """
    target = work.spec.target
    assert isinstance(target, OnnxRuntimeCuda)  # noqa: S101 (narrows a type)
    cuda = {
        "enable_cuda_graph": "1" if target.cuda_graphs else "0",
        "use_tf32": "1" if target.tf32 else "0",
    }
    settings = OnnxRuntimeSettings([("CUDAExecutionProvider", cuda), ("CPUExecutionProvider", {})])
    result: Result = rewrite(work, target, "basic", settings)
    return result
