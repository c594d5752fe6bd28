"""What a scheme works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...graph import Arrays, layer_of

#: Operators whose cost is in their weights: they are what quantization is for.
HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass
class SchemeJob:
    """A graph to quantize.

    Attributes:
        source: File of the float graph.
        graph: The same, loaded.
        scratch: A folder for what is between.
        inputs: Calibration inputs by name, each (N, ...).
        skipped: Names of nodes to leave in floating point.
        notes: Sentences for the user.
    """

    source: Path
    graph: Any
    scratch: Path
    inputs: Arrays
    skipped: list[str]
    notes: list[str] = field(default_factory=list)

    def prepared(self) -> Path:
        """The graph after shape inference and optimization, as ONNX Runtime's tools want it."""
        from onnxruntime.quantization.shape_inference import quant_pre_process

        target = self.scratch / "prepared.onnx"
        if not target.exists():
            quant_pre_process(str(self.source), str(target))
        return target


def heavy_nodes(graph: Any) -> list[Any]:
    """Convolutions and matrix products."""
    return [node for node in graph.graph.node if node.op_type in HEAVY]


def producers(graph: Any) -> dict[str, Any]:
    """The node that makes each value."""
    return {output: node for node in graph.graph.node for output in node.output}


def left_in_float(graph: Any) -> list[tuple[str, str]]:
    """Layer and operator of each heavy node that has an input or a weight in floating point."""
    made = producers(graph)
    return [
        (layer_of(node), str(node.op_type))
        for node in heavy_nodes(graph)
        if any(
            made.get(name) is None or made[name].op_type != "DequantizeLinear"
            for name in node.input[:2]
        )
    ]
