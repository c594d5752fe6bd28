"""Rounding that saves nothing is taken away: after the last layer, and before an activation.

ONNX Runtime's quantizer rounds the outputs of the graph, too. That saves nothing, because nothing
computes with them, and it cuts whatever is larger than on the calibration samples: a text
classifier lost 11 dB.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ....ray_workers.model.onnx_files import graphs_of
from .job import HEAVY, RECURRENT, producers, sweep

#: ONNX Runtime computes these in int8 only if their output is rounded, maybe after an activation.
_ROUND_THEIR_OUTPUT = ("Conv", "ConvTranspose")
_FUSED = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh")


def keep_outputs(graph: Any) -> None:
    """Remove rounding behind which no layer with weights follows, in place.

    A convolution's own output stays rounded: without that, ONNX Runtime would compute it in
    floating point.

    Args:
        graph: With QuantizeLinear and DequantizeLinear around what is quantized.
    """
    tail, made = _tail(graph), producers(graph)
    readers = _readers(graph)
    outputs = {item.name for item in graph.graph.output}
    for rounding in [n for n in graph.graph.node if n.op_type == "QuantizeLinear"]:
        plain = rounding.input[0]
        maker = made.get(plain)
        if rounding.output[0] not in tail or maker is None or _needs_rounding(maker, made):
            continue
        unpacked = [n for n in readers[rounding.output[0]] if n.op_type == "DequantizeLinear"]
        returned = [n.output[0] for n in unpacked if n.output[0] in outputs]
        if len(returned) > 1 or (returned and plain in outputs):
            continue
        name = returned[0] if returned else plain
        for node in unpacked:
            graph.graph.node.remove(node)
            _rename(readers[node.output[0]], node.output[0], name)
            readers[name] += readers[node.output[0]]
        if name != plain:
            maker.output[:] = [name if output == plain else output for output in maker.output]
            _rename(readers[plain], plain, name)
            made[name] = maker
    sweep(graph)


def round_once(graph: Any) -> None:
    """Let a ReLU or Clip whose output is rounded read what was not rounded yet, in place.

    ONNX Runtime fuses it with the layer before, as if there had been no rounding in between.

    Args:
        graph: With QuantizeLinear and DequantizeLinear around what is quantized.
    """
    made = producers(graph)
    rounded = {node.input[0] for node in graph.graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.graph.node:
        if node.op_type not in ("Relu", "Clip") or node.output[0] not in rounded:
            continue
        unpacking = made.get(node.input[0])
        if unpacking is None or unpacking.op_type != "DequantizeLinear":
            continue
        rounding = made.get(unpacking.input[0])
        if rounding is not None and rounding.op_type == "QuantizeLinear":
            node.input[0] = rounding.input[0]
    sweep(graph)


def _tail(graph: Any) -> set[str]:
    """What nodes compute behind which no layer with weights follows."""
    readers = _readers(graph)
    in_bodies = {
        name
        for inner in graphs_of(graph.graph)
        if inner is not graph.graph
        for node in inner.node
        for name in node.input
    }
    found: set[str] = set()
    for node in reversed(graph.graph.node):
        if node.op_type in (*HEAVY, *RECURRENT) or in_bodies & {*node.output}:
            continue
        following = [reader for output in node.output for reader in readers[output]]
        if all(reader.output[0] in found for reader in following):
            found.update(node.output)
    return found


def _readers(graph: Any) -> defaultdict[str, list[Any]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for node in graph.graph.node:
        for name in node.input:
            found[name].append(node)
    return found


def _needs_rounding(maker: Any, made: dict[str, Any]) -> bool:
    if maker.op_type in _FUSED and maker.input[0] in made:
        maker = made[maker.input[0]]
    return maker.op_type in _ROUND_THEIR_OUTPUT


def _rename(nodes: list[Any], old: str, new: str) -> None:
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]
