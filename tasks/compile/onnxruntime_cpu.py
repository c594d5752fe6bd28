"""onnxruntime-cpu: ONNX Runtime's CPU execution provider.

The artifact is the graph as ONNX Runtime rewrote it up to `extended`, which holds on any machine;
what it rewrites for the processor at hand happens when it is loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OnnxRuntimeCpu
from . import Unavailable
from ._onnxruntime import SETTINGS as _SETTINGS
from ._onnxruntime import rewrite, runner


def availability(target: OnnxRuntimeCpu) -> Unavailable | None:
    """None if ONNX Runtime is installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return Unavailable(
            reason="onnxruntime is not installed",
            do="pip install onnxruntime",
            installable=True,
        )
    return None


def compile_graph(work: Workspace) -> Result:
    """Spec: target. Input: `graph`. Output: `model`.

    Raises:
        StepFailed: ONNX Runtime refuses the graph; with the operator that it names.
    """
    target = OnnxRuntimeCpu.model_validate(work.spec["target"])
    result: Result = rewrite(work, target, target.graph_level)
    return result


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner.

    Args:
        folder: The artifact.
        options: `threads`: threads within an operator.
    """
    target = OnnxRuntimeCpu.model_validate_json((folder / _SETTINGS).read_text())
    return runner(folder, options, ["CPUExecutionProvider"], target.graph_level, target)
