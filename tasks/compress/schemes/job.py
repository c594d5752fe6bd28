"""The input of a quantization scheme, and questions about graphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from ....ray_workers.model.onnx_files import Arrays, graphs_of, is_large

#: Operators whose cost is in their weights, which quantization is for.
HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Layers with weights at their inputs 1 and 2.
RECURRENT = ("LSTM", "GRU", "RNN")
_HUGE = 1e9  # no activation's size
#: Operators that masks are for, and after which their huge values are gone. Not Clip, whose bound
#: may be a mask, nor TopK, which selects masked values if too few others are left.
_MASKED = frozenset(
    {"Softmax", "Sigmoid", "Tanh", "Exp", "ReduceMax", "ArgMax", "Equal", "Less", "LessOrEqual",
     "Greater", "GreaterOrEqual", "IsInf"}
)  # fmt: skip
#: What a norm's statistics are computed by: from many values one, by each, and without computing.
_REDUCTIONS = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin",
     "GlobalAveragePool"}
)  # fmt: skip
_OF_EACH = frozenset(
    {"Add", "Sub", "Mul", "Div", "Max", "Min", "Clip", "Sqrt", "Pow", "Reciprocal", "Abs"}
)
_RESHAPED = frozenset({"Expand", "Reshape", "Unsqueeze", "Squeeze", "Cast", "Identity"})
_FLOATS = (1, 10, 11, 16)  # ONNX's float, float16, double, bfloat16
_INTEGERS = (2, 3, 4, 5, 6, 7, 12, 13)  # ONNX's, signed and unsigned


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
        left: Why the scheme leaves layers as they are, by the layer's name.
    """

    source: Path
    graph: Any
    scratch: Path
    inputs: Arrays
    skipped: list[str]
    notes: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    @property
    def large(self) -> bool:
        """Whether weights must be stored beside the graph."""
        return is_large(self.graph)

    def prepared(self) -> Path:
        """The graph after shape inference and optimization, as ONNX Runtime's tools require.

        Symbolic shape inference knows fewer operators than ONNX Runtime itself, and fails on some
        that it knows (a Resize by scales). The tools do with what the others find.
        """
        target = self.scratch / "prepared.onnx"
        if not target.exists():
            try:
                self._prepare(target)
            except Exception:
                target.unlink(missing_ok=True)
                self._prepare(target, skip_symbolic_shape=True)
        return target

    def _prepare(self, target: Path, **options: Any) -> None:
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process
        from onnxruntime.tools import symbolic_shape_infer

        # Where it fails, it leaves the graph and its weights in the current folder.
        quiet = SimpleNamespace(**{**vars(onnx), "save_model": lambda *_, **__: None})
        if self.large:
            options |= {
                "save_as_external_data": True,
                "external_data_location": "prepared.data",
                "external_data_size_threshold": 1024,
            }
        with patch.object(symbolic_shape_infer, "onnx", quiet):
            quant_pre_process(str(self.source), str(target), **options)


def heavy_nodes(graph: Any) -> list[Any]:
    """Convolutions and matrix products of the main graph."""
    return [node for node in graph.graph.node if node.op_type in HEAVY]


def reaches_bodies(graph: Any) -> bool:
    """Whether the bodies of If, Loop and Scan have convolutions, matrix products or recurrences."""
    return any(
        node.op_type in (*HEAVY, *RECURRENT)
        for inner in graphs_of(graph.graph)
        if inner is not graph.graph
        for node in inner.node
    )


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


def index_nodes(graph: Any) -> list[str]:
    """Nodes that compute integers from floats, back to the layers: buckets of relative positions
    (T5), coordinates. An integer of a rounded float is another place, not a near one.
    """
    made = producers(graph)
    ahead = [
        node.input[0]
        for node in graph.graph.node
        if node.op_type == "Cast"
        and any(a.name == "to" and a.i in _INTEGERS for a in node.attribute)
    ]
    found: dict[str, None] = {}
    while ahead:
        node = made.get(ahead.pop())
        if node is not None and node.name not in found and node.op_type not in (*HEAVY, *RECURRENT):
            found[str(node.name)] = None
            ahead += node.input
    return list(found)


def statistics_nodes(graph: Any) -> list[str]:
    """Nodes that compute the mean and spread by which a layer's code normalizes (RMSNorm, RevIN, an
    instance norm written out), up to the division. One scale for all squares rounds those of quiet
    samples to zero, and a mean that is far from zero leaves few steps for what differs from it.
    """
    made = producers(graph)
    found: dict[str, None] = {}
    inverses = set()
    for node in graph.graph.node:
        if node.op_type not in ("Div", "Reciprocal"):
            continue
        spread = _statistic(node.input[-1], made)
        if not spread:
            continue
        found[str(node.name)] = None
        for one in spread:
            found |= dict.fromkeys([str(one.name), *_centred(one.input[0], made)])
        if node.op_type == "Div":
            found |= dict.fromkeys(_centred(node.input[0], made))
        else:
            inverses.add(node.output[0])
    for node in graph.graph.node:  # a product with an inverse is a division
        if node.op_type == "Mul" and inverses.intersection(node.input):
            found[str(node.name)] = None
    return list(found)


def _statistic(name: str, made: dict[str, Any]) -> list[Any]:
    """The nodes that compute a value from reductions and constants alone, back to the reductions;
    none: it is computed from something else, too.
    """
    nodes: dict[str, Any] = {}
    ahead, reduces = [name], False
    while ahead:
        node = made.get(ahead.pop())
        if node is None or node.op_type in ("Shape", "Constant"):
            continue
        nodes[str(node.name)] = node
        if node.op_type in _REDUCTIONS:
            reduces = True
        elif node.op_type in _RESHAPED:
            ahead.append(node.input[0])
        elif node.op_type in _OF_EACH:
            ahead += node.input
        else:
            return []
    return list(nodes.values()) if reduces else []


def _centred(name: str, made: dict[str, Any]) -> list[str]:
    """Of a value: the square that it is, the difference from a statistic, and that statistic."""
    names = []
    node = made.get(name)
    if node is not None and (
        node.op_type in ("Pow", "Abs") or (node.op_type == "Mul" and len(set(node.input)) == 1)
    ):
        names.append(str(node.name))
        node = made.get(node.input[0])
    if node is not None and node.op_type == "Sub":
        statistic = _statistic(node.input[1], made)
        if statistic:
            names += [str(node.name), *(str(one.name) for one in statistic)]
    return names


def last_sums(graph: Any) -> list[str]:
    """Additions and multiplications behind which no layer with weights follows: int8 saves nothing
    there, and what they read would be rounded for its other readers, too.
    """
    ahead = [name for node in graph.graph.node if node.op_type in (*HEAVY, *RECURRENT)
             for name in node.input]  # fmt: skip
    made, before = producers(graph), set()
    while ahead:
        node = made.get(ahead.pop())
        if node is not None and node.name not in before:
            before.add(node.name)
            ahead += node.input
    return [
        str(node.name)
        for node in graph.graph.node
        if node.op_type in ("Add", "Sub", "Mul", "Div") and node.name not in before
    ]


def exact_nodes(graph: Any) -> list[str]:
    """Nodes that static quantization leaves in floating point, whatever the recipe says."""
    return [*index_nodes(graph), *statistics_nodes(graph), *last_sums(graph)]


def sweep(graph: Any) -> None:
    """Remove nodes and constants that are no longer used, in place."""
    while True:
        used = used_names(graph)
        dead = [node for node in graph.graph.node if not any(o in used for o in node.output)]
        if not dead:
            break
        for node in dead:
            graph.graph.node.remove(node)
    for item in [item for item in graph.graph.initializer if item.name not in used]:
        graph.graph.initializer.remove(item)


def used_names(graph: Any) -> set[str]:
    """Values that a node, one in a body of a node, or an output of the graph reads."""
    used = {output.name for output in graph.graph.output}
    for inner in graphs_of(graph.graph):
        used |= {name for node in inner.node for name in node.input}
        used |= {output.name for output in inner.output}
    return used


def constants_in(graph: Any) -> dict[str, Any]:
    """Constants of one graph by name."""
    return {item.name: item for item in graph.initializer}


def producers(graph: Any) -> dict[str, Any]:
    """The node that computes each value."""
    return {output: node for node in graph.graph.node for output in node.output}
