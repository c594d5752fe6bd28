"""Fold: constants, batch norms, common subexpressions and identities, on the graph.

Uses ONNX Runtime's `basic` optimizations, which are valid on any machine and target
(https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html), so that a
target that optimizes less gets the smaller graph too.
"""

from __future__ import annotations

from ...ray_workers.model.onnx_files import read_graph, restore_layers, rewrite_graph, write_graph
from ...ray_workers.model.regular_graph import regular
from ...ray_workers.workspace import Result, Workspace
from ..specs.compress import GraphPassSpec


def apply(work: Workspace[GraphPassSpec]) -> Result:
    """Input and output: `graph`.

    Raises:
        StepFailed: ONNX Runtime refuses the graph.
    """
    source = read_graph(work.inputs["graph"])
    graph = regular(rewrite_graph(work.inputs["graph"], "basic", work.scratch, "fold"), "fold")
    restore_layers(graph, source)
    write_graph(graph, work.output("graph", "onnx"))
    before, after = len(source.graph.node), len(graph.graph.node)
    notes = [] if after < before else ["fold found nothing to simplify"]
    return Result(
        notes=notes,
        params={"fold/nodes_before": before, "fold/nodes_after": after},
        metrics={"fold/nodes_kept": after / max(1, before)},
    )
