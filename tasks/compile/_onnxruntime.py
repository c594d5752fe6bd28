"""ONNX Runtime with any execution provider."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ...runtimes.compiled_artifact import CompiledArtifact
from ...runtimes.onnxruntime_runtime import NAME, OnnxRuntimeSettings


def rewrite(work: Any, target: Any, level: str, settings: OnnxRuntimeSettings) -> Any:
    """Write the graph, optimized by ONNX Runtime up to a level, and its settings.

    Raises:
        StepFailed: ONNX Runtime refuses the graph, or can't compute in its precision.
    """
    from ...ray_workers.model.float32_form import has_other_floats
    from ...ray_workers.model.onnx_files import (
        PRECISION,
        outputs_of,
        property_of,
        read_graph,
        rewrite_graph,
        set_property,
        write_graph,
    )
    from ...ray_workers.model.spectrums import plain_spectrums
    from ...ray_workers.workspace import Result
    from ...recipe.errors import StepFailed

    source = read_graph(work.inputs["graph"])
    precision = property_of(source, PRECISION)
    if precision == "fp8":  # ONNX Runtime 1.32 fuses its products wrongly
        raise StepFailed("ONNX Runtime does not support fp8", where=target.kind, do="use tensorrt")
    if precision == "bf16" and not target.gpu:
        raise StepFailed(
            "ONNX Runtime has no bf16 kernels for the processor",
            where=target.kind,
            do="use openvino-cpu, or a GPU target",
        )
    if level == "all" and not target.gpu and has_other_floats(source) == "float16":
        # Its layout for convolutions ends the process on some of these graphs (1.32).
        level, settings = "extended", replace(settings, graph_level="extended")
    folder = work.output("model", "onnxruntime")
    portable = "extended" if level == "all" else level
    given, outputs = work.inputs["graph"], outputs_of(source)
    if not target.gpu and plain_spectrums(source.graph, slow_ones_only=True):
        given = work.scratch / "plain"
        given.mkdir()
        write_graph(source, given)
    model = rewrite_graph(given, portable, work.scratch, target.kind)
    if precision:
        set_property(model, PRECISION, precision)
    write_graph(model, folder)
    sizes = work.spec.batch_sizes
    artifact = CompiledArtifact(
        runtime=NAME,
        batch_sizes=None if sizes is None else tuple(sorted({1, *sizes})),
        settings=asdict(settings),
        outputs=outputs,
    )
    artifact.write(folder)
    return Result(
        params={
            "compile/nodes": len(model.graph.node),
            "compile/graph_level": level,
            "compile/batch_axis": artifact.batch_axis,
        }
    )
