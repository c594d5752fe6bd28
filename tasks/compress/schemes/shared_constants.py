"""Constants that several layers share: one for each layer while a tool quantizes, one again after.

A block that is called twice has one weight and one bias in the graph. NNCF refuses some shared
weights, and its bias correction of one call changes the bias of every other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from .job import heavy_nodes

#: Smaller constants aren't worth looking for.
_SMALLEST = 64  # bytes
#: Operators whose third input is a bias.
_BIASED = ("Conv", "ConvTranspose", "Gemm", "InstanceNormalization", "LayerNormalization")


def unshare(graph: Any) -> bool:
    """Give each convolution and matrix product weights and biases of its own, in place.

    Returns:
        Whether any were shared.
    """
    return _unshare(graph, [(node, range(len(node.input))) for node in heavy_nodes(graph)])


def unshare_biases(graph: Any) -> bool:
    """Give each layer and normalization a bias of its own, in place.

    ONNX Runtime's quantizer numbers the copies of a shared bias, and doesn't look whether another
    value has that name: the seventh `val_11` is `val_117`.

    Returns:
        Whether any were shared.
    """
    biased = [n for n in graph.graph.node if n.op_type in _BIASED and len(n.input) > 2]
    return _unshare(graph, [(node, (2,)) for node in biased])


def unshare_tables(graph: Any, readers: Sequence[Any]) -> bool:
    """Give each lookup a table of its own where others read it too, in place.

    Of an embedding that is tied to the output layer, NNCF packs the one and forgets the other, and
    ONNX Runtime's quantizer rounds what is looked up with a scale for each of the layer's outputs.

    Args:
        graph: The graph.
        readers: The others.

    Returns:
        Whether any were shared.
    """
    lookups = [node for node in graph.graph.node if node.op_type == "Gather"]
    tables = {node.input[0] for node in lookups}
    others = [
        (node, [i for i, name in enumerate(node.input) if name in tables])
        for node in readers
        if node.op_type != "Gather"
    ]
    return _unshare(graph, [*others, *((node, (0,)) for node in lookups)])


def _unshare(graph: Any, nodes: list[tuple[Any, Iterable[int]]]) -> bool:
    """Copy constants that more than one of the nodes has at the given inputs."""
    constants = {item.name: item for item in graph.graph.initializer}
    owners: dict[str, str] = {}
    shared = False
    for node, positions in nodes:
        own = str(node.output[0])  # a node's name may be empty
        for position in positions:
            name = str(node.input[position])
            if name not in constants or owners.setdefault(name, own) == own:
                continue
            copy = graph.graph.initializer.add()
            copy.CopyFrom(constants[name])
            copy.name = node.input[position] = f"{name}_of_{own}"
            shared = True
    return shared


def merge_equal(graph: Any) -> None:
    """Let values that are computed from equal constants share one, in place."""
    kept: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    outputs = {item.name for item in graph.graph.output}
    for item in list(graph.graph.initializer):
        if item.ByteSize() < _SMALLEST or item.name in outputs:
            continue
        name, item.name = item.name, ""
        digest = hashlib.sha256(item.SerializeToString(deterministic=True)).digest()
        item.name = name
        if kept.setdefault(digest, name) != name:
            renamed[name] = kept[digest]
            graph.graph.initializer.remove(item)
    for node in graph.graph.node:
        for position, name in enumerate(node.input):
            if name in renamed:
                node.input[position] = renamed[name]
