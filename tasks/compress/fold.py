"""Fold: constants, batch norms, common subexpressions and identities, on the graph.

By ONNX Runtime's `basic` rewrites, which hold on any machine and any target
(https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html), so that a
target that rewrites less gets the smaller graph too.
"""

from __future__ import annotations

from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ..graph import GRAPH, read_graph, restore_layers, write_graph


def apply(work: Workspace) -> Result:
    """Spec: pass. Input and output: `graph`.

    Raises:
        StepFailed: ONNX Runtime refuses the graph.
    """
    import onnx
    import onnxruntime

    source = read_graph(work.inputs["graph"])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    rewritten = work.scratch / "folded.onnx"
    options.optimized_model_filepath = str(rewritten)
    try:
        onnxruntime.InferenceSession(
            str(work.inputs["graph"] / GRAPH), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise StepFailed(
            f"ONNX Runtime refuses the graph: {(str(error).splitlines() or [''])[0]}", where="fold"
        ) from error
    graph = onnx.load(str(rewritten))
    restore_layers(graph, source)
    write_graph(graph, work.output("graph", "onnx"))
    before, after = len(source.graph.node), len(graph.graph.node)
    return Result(
        params={"fold/nodes_before": before, "fold/nodes_after": after},
        metrics={"fold/nodes_kept": after / max(1, before)},
    )
