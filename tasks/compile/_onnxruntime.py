"""ONNX Runtime with any execution provider: compile, and load as a runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .fixed_batches import Run, compiled_for_sizes, note_sizes

FILE = "model.onnx"
SETTINGS = "settings.json"
#: Name of the batch axis in the exported graph.
BATCH_AXIS = "batch"


def rewrite(work: Any, target: Any, level: str) -> Any:
    """Write the graph as ONNX Runtime rewrites it up to a level, and the target's settings.

    Raises:
        StepFailed: ONNX Runtime refuses the graph, or can't compute what it asks for.
    """
    from ...ray_workers.model.onnx_files import (
        PRECISION,
        property_of,
        read_graph,
        rewrite_graph,
        set_property,
        write_graph,
    )
    from ...ray_workers.workspace import Result
    from ...recipe.errors import StepFailed

    source = read_graph(work.inputs["graph"])
    precision = property_of(source, PRECISION)
    if precision == "fp8":  # ONNX Runtime 1.32 fuses its products wrongly
        raise StepFailed(
            "ONNX Runtime does not compute in fp8", where=target.kind, do="take tensorrt"
        )
    if precision == "bf16" and not target.gpu:
        raise StepFailed(
            "ONNX Runtime has no bf16 kernels for the processor",
            where=target.kind,
            do="take openvino-cpu, or a GPU target",
        )
    folder = work.output("model", "onnxruntime")
    portable = "extended" if level == "all" else level
    model = rewrite_graph(work.inputs["graph"], portable, work.scratch, target.kind)
    if precision:
        set_property(model, PRECISION, precision)
    write_graph(model, folder)
    (folder / SETTINGS).write_text(target.model_dump_json())
    return Result(
        params={
            "compile/nodes": len(model.graph.node),
            "compile/graph_level": level,
            "compile/batch_axis": note_sizes(folder, work.spec.get("batch_sizes")),
        }
    )


def runner(
    folder: Path, options: dict[str, Any], providers: list[Any], level: str, target: Any
) -> Callable[[dict[str, Any]], Any]:
    """A function from inputs by name to the main output.

    Args:
        folder: The artifact.
        options: `threads`: threads within an operator.
        providers: Execution providers, in order.
        level: How far the graph is rewritten for this machine.
        target: The target's settings.
    """
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    threads = getattr(target, "threads", None) or options.get("threads", 0)

    def compiled(size: int | None) -> Run:
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = int(threads)
        settings.inter_op_num_threads = 1
        settings.enable_cpu_mem_arena = getattr(target, "arena", True)
        if not getattr(target, "denormals", True):
            settings.add_session_config_entry("session.set_denormal_as_zero", "1")
        settings.graph_optimization_level = {
            "disabled": levels.ORT_DISABLE_ALL,
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[level]
        if size is not None:
            settings.add_free_dimension_override_by_name(BATCH_AXIS, size)
        session = onnxruntime.InferenceSession(str(folder / FILE), settings, providers=providers)

        def run(inputs: dict[str, np.ndarray[Any, Any]]) -> Any:
            return session.run(["output"], inputs)[0]

        return run

    return compiled_for_sizes(folder, compiled)
