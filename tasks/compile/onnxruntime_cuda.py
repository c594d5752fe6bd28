"""onnxruntime-cuda: ONNX Runtime's CUDA execution provider. Never run on a GPU yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OnnxRuntimeCuda
from . import Unavailable
from ._cuda import unavailable_cuda
from ._onnxruntime import SETTINGS, rewrite, runner


def availability(_target: OnnxRuntimeCuda) -> Unavailable | None:
    """None if there is a GPU, and an ONNX Runtime that was built for it."""
    found: Unavailable | None = unavailable_cuda("onnxruntime", "CUDAExecutionProvider")
    return found


def compile_graph(work: Workspace) -> Result:
    """Spec: target. Input: `graph`. Output: `model`.

    Raises:
        StepFailed: ONNX Runtime refuses the graph.
    """
    target = OnnxRuntimeCuda.model_validate(work.spec["target"])
    result: Result = rewrite(work, target, "basic")
    return result


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner; inputs and outputs are copied from and to the host."""
    target = OnnxRuntimeCuda.model_validate_json((folder / SETTINGS).read_text())
    settings = {
        "enable_cuda_graph": "1" if target.cuda_graphs else "0",
        "use_tf32": "1" if target.tf32 else "0",
    }
    providers = [("CUDAExecutionProvider", settings), "CPUExecutionProvider"]
    return runner(folder, options, providers, "all", target)
