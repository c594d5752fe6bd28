"""The input of a quantization scheme, and questions about graphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ....ray_workers.model.onnx_files import Arrays, is_large, layer_of

#: Operators whose cost is in their weights, which quantization is for.
HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_HUGE = 1e9  # no activation's size
#: Operators that masks are for, and after which their huge values are gone. Not Clip, whose bound
#: may be a mask, nor TopK, which selects masked values if too few others are left.
_MASKED = frozenset(
    {"Softmax", "Sigmoid", "Tanh", "Exp", "ReduceMax", "ArgMax", "Equal", "Less", "LessOrEqual",
     "Greater", "GreaterOrEqual", "IsInf"}
)  # fmt: skip
_FLOATS = (1, 10, 11, 16)  # ONNX's float, float16, double, bfloat16


@dataclass
class QuantizeJob:
    """A graph to quantize.

    Attributes:
        source: File of the float graph.
        graph: The same, loaded.
        scratch: A folder for temporary files.
        inputs: Calibration inputs by name, each (N, ...).
        skipped: Names of nodes to leave in floating point.
        notes: Messages for the user.
    """

    source: Path
    graph: Any
    scratch: Path
    inputs: Arrays
    skipped: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def large(self) -> bool:
        """Whether weights must be stored beside the graph."""
        return is_large(self.graph)

    def prepared(self) -> Path:
        """The graph after shape inference and optimization, as ONNX Runtime's tools require."""
        from onnxruntime.quantization.shape_inference import quant_pre_process

        target = self.scratch / "prepared.onnx"
        if not target.exists():
            options: dict[str, Any] = {}
            if self.large:
                options = {
                    "save_as_external_data": True,
                    "external_data_location": "prepared.data",
                    "external_data_size_threshold": 1024,
                }
            quant_pre_process(str(self.source), str(target), **options)
        return target


def heavy_nodes(graph: Any) -> list[Any]:
    """Convolutions and matrix products."""
    return [node for node in graph.graph.node if node.op_type in HEAVY]


def masking_nodes(graph: Any) -> list[str]:
    """Nodes that process an attention mask, up to the softmax or another operator that bounds it.
    Its huge values stand for minus infinity; a scale that covered them would round everything else
    to zero.
    """
    from onnx import numpy_helper

    def is_mask(tensor: Any) -> bool:
        if tensor.data_type not in _FLOATS:
            return False
        values = numpy_helper.to_array(tensor)
        return bool(values.size and np.abs(values).max() > _HUGE)

    masked = {item.name for item in graph.graph.initializer if is_mask(item)}
    found = []
    for node in graph.graph.node:
        constants = [a.t for a in node.attribute if a.HasField("t")]
        if not any(name in masked for name in node.input) and not any(map(is_mask, constants)):
            continue
        found.append(str(node.name))
        if node.op_type not in _MASKED:
            masked.update(node.output)
    return found


def producers(graph: Any) -> dict[str, Any]:
    """The node that computes each value."""
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
