"""onnxruntime-tensorrt: ONNX Runtime's TensorRT execution provider. Never run on a GPU yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OnnxRuntimeTensorRt
from . import Unavailable
from ._cuda import kept_on_machine, unavailable_cuda
from ._onnxruntime import SETTINGS, rewrite, runner


def availability(_target: OnnxRuntimeTensorRt) -> Unavailable | None:
    """None if there is a GPU, and an ONNX Runtime with TensorRT."""
    found: Unavailable | None = unavailable_cuda("onnxruntime", "TensorrtExecutionProvider")
    return found


def compile_graph(work: Workspace) -> Result:
    """Spec: target. Input: `graph`. Output: `model`. The engine itself is built when it is loaded.

    Raises:
        StepFailed: ONNX Runtime refuses the graph.
    """
    target = OnnxRuntimeTensorRt.model_validate(work.spec["target"])
    result: Result = rewrite(work, target, "basic")
    return result


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner; engines are cached on this machine between loads."""
    target = OnnxRuntimeTensorRt.model_validate_json((folder / SETTINGS).read_text())
    cache = kept_on_machine()
    settings = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(cache),
        "trt_fp16_enable": target.precision == "fp16",
    }
    providers = [
        ("TensorrtExecutionProvider", settings), "CUDAExecutionProvider", "CPUExecutionProvider",
    ]  # fmt: skip
    return runner(folder, options, providers, "all", target)
