"""Weights of a layer that is called several times, stored once.

torch.onnx reorders the weights of a recurrent layer and transposes those of a linear layer at each
call, and folds that: a decoder of a hundred steps has its weights a hundred times.
"""

from __future__ import annotations

import hashlib
from typing import Any

from .onnx_files import graphs_of

#: Positions of the weights that are folded, by operator.
_FOLDED = {"MatMul": (1,), **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2, 3))}


def share_weights(graph: Any) -> None:
    """Let nodes of one operator with equal weights share them, in place."""
    constants = {item.name: item for item in graph.graph.initializer}
    kept: dict[tuple[str, bytes], str] = {}
    for node in (node for inner in graphs_of(graph.graph) for node in inner.node):
        for position in _FOLDED.get(node.op_type, ()):
            name = node.input[position] if position < len(node.input) else ""
            if name in constants:
                key = (str(node.op_type), _digest(constants[name]))
                node.input[position] = kept.setdefault(key, name)
    used = {name for inner in graphs_of(graph.graph) for node in inner.node for name in node.input}
    used |= {item.name for item in graph.graph.output}
    unused = [item for item in graph.graph.initializer if item.name not in used]
    for item in unused:
        graph.graph.initializer.remove(item)


def _digest(item: Any) -> bytes:
    name, item.name = item.name, ""
    digest = hashlib.sha256(item.SerializeToString(deterministic=True)).digest()
    item.name = name
    return digest
