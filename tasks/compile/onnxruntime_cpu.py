"""onnxruntime-cpu: ONNX Runtime's CPU execution provider.

The artifact is the graph as ONNX Runtime rewrote it up to `extended`, which holds on any machine;
what it rewrites for the processor at hand happens when it is loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ...recipe.targets import OnnxRuntimeCpu
from . import Unavailable

_FILE = "model.onnx"
_SETTINGS = "settings.json"


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
    import onnx
    import onnxruntime

    from ..graph import GRAPH, read_graph, write_graph

    target = OnnxRuntimeCpu.model_validate(work.spec["target"])
    folder = work.output("model", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    portable = {"disabled": levels.ORT_DISABLE_ALL, "basic": levels.ORT_ENABLE_BASIC}
    options.graph_optimization_level = portable.get(target.graph_level, levels.ORT_ENABLE_EXTENDED)
    rewritten = work.scratch / "rewritten.onnx"
    options.optimized_model_filepath = str(rewritten)
    try:
        onnxruntime.InferenceSession(
            str(work.inputs["graph"] / GRAPH), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise StepFailed(
            f"ONNX Runtime refuses the graph: {(str(error).splitlines() or [''])[0]}",
            where="onnxruntime-cpu",
        ) from error
    model = onnx.load(str(rewritten)) if rewritten.exists() else read_graph(work.inputs["graph"])
    write_graph(model, folder)
    (folder / _SETTINGS).write_text(target.model_dump_json())
    return Result(
        params={"compile/nodes": len(model.graph.node), "compile/graph_level": target.graph_level}
    )


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner.

    Args:
        folder: The artifact.
        options: `threads`: threads within an operator.
    """
    import onnxruntime

    target = OnnxRuntimeCpu.model_validate_json((folder / _SETTINGS).read_text())
    levels = onnxruntime.GraphOptimizationLevel
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = int(options.get("threads", 0))
    settings.inter_op_num_threads = 1
    settings.enable_cpu_mem_arena = target.arena
    settings.graph_optimization_level = {
        "disabled": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[target.graph_level]
    session = onnxruntime.InferenceSession(
        str(folder / _FILE), settings, providers=["CPUExecutionProvider"]
    )
    wanted = ["output"]

    def run(inputs: dict[str, np.ndarray[Any, Any]]) -> Any:
        return session.run(wanted, inputs)[0]

    return run
