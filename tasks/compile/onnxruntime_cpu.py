"""onnxruntime-cpu: ONNX Runtime's CPU execution provider.

The artifact is the graph optimized by ONNX Runtime up to `extended`, which is valid on any machine;
optimizations for the processor happen when it is loaded.
"""

from __future__ import annotations

import importlib.util

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OnnxRuntimeCpu
from ...runtimes.onnxruntime_runtime import OnnxRuntimeSettings
from ...runtimes.onnxruntime_runtime import load as load
from ..specs.compile import CompileSpec
from . import Unavailable
from ._onnxruntime import rewrite


def availability(target: OnnxRuntimeCpu) -> Unavailable | None:
    """None if ONNX Runtime is installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return Unavailable(
            reason="onnxruntime is not installed",
            do="pip install onnxruntime",
            installable=True,
        )
    return None


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Input: `graph`. Output: `model`.

    Raises:
        StepFailed: ONNX Runtime refuses the graph; with the operator that it names.
    """
    target = work.spec.target
    assert isinstance(target, OnnxRuntimeCpu)  # noqa: S101 (narrows a type)
    settings = OnnxRuntimeSettings(
        providers=[("CPUExecutionProvider", {})],
        graph_level=target.graph_level,
        arena=target.arena,
        denormals=target.denormals,
        threads=target.threads,
    )
    result: Result = rewrite(work, target, target.graph_level, settings)
    return result
