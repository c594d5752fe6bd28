"""Which node of a graph a runtime's error is about, in terms of the user's layers."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

from ...recipe.library_messages import telling
from .onnx_files import graphs_of, layer_of

#: Where a runtime's error holds the name of a node.
_NAMED = (
    re.compile(r"ONNX node '<Node\(\w*\): ([^>]+)>'"),  # OpenVINO
    re.compile(r"\bNode:(\S+) "),  # ONNX Runtime's shape inference
    re.compile(r"\bNode \(([^)]+)\) Op \("),
    re.compile(r"\bnode\. Name:'([^']+)'"),
    re.compile(r"\bnode with name '([^']+)'"),
    re.compile(r"\bin node \(([^)]+)\)"),
)
_WITHOUT_RULE = re.compile(
    r"No conversion rule found for operations: (?:([\w.]+)\.)?(\w+?)(?:-\d+)?(?![\w-])"
)

#: From the name of a value to the shape that a runtime gives it; None where a size is not fixed.
Shapes = dict[str, tuple[int | None, ...]]


def blamed(error: BaseException, model: Any) -> Any | None:
    """The node that an error of ONNX Runtime or OpenVINO names; None if it names none."""
    text = str(error)
    nodes = [node for graph in graphs_of(model.graph) for node in graph.node]
    for pattern in _NAMED:
        for name in pattern.findall(text):
            # OpenVINO names a node without a name by its outputs.
            for node in nodes:
                if name in (node.name, ", ".join(node.output), *node.output):
                    return node
    if found := _WITHOUT_RULE.search(text):
        wanted = (found[1] or "", found[2])
        return next((node for node in nodes if (node.domain, node.op_type) == wanted), None)
    return None


def place_of(node: Any, model: Any) -> str:
    """A node by its layer; one of the outermost forward, by its name and the layer before it."""
    if (layer := layer_of(node)) != node.name:
        return f"layer '{layer}'"
    before = next(
        (layer_of(n) for n in _before(node, model) if layer_of(n) not in ("", n.name)), None
    )
    named = f"node '{node.name}'" if node.name else f"the node that makes '{node.output[0]}'"
    return named if before is None else f"{named}, after layer '{before}'"


def told(error: BaseException, model: Any, shapes: Callable[[Any], Shapes] | None = None) -> str:
    """An error of a runtime in one sentence, with the node that is the cause of it.

    Args:
        error: What the runtime raised.
        model: The graph that it was given.
        shapes: Shapes that the runtime gives to the outputs of a graph. Where a node before the
            named one gets another shape than ONNX gives it, that one is the cause.
    """
    node = blamed(error, model)
    if node is None:
        return telling(error)
    if shapes is not None and (cause := _other_shape(node, model, shapes)):
        return cause
    said, place = telling(error), place_of(node, model)
    return f"{said} ({place})" if place not in said else said


def _other_shape(node: Any, model: Any, shapes: Callable[[Any], Shapes]) -> str:
    """The first node before another whose output the runtime gives another shape; or nothing."""
    import onnx

    try:
        names = {output for other in _before(node, model) for output in other.output}
        before = [other for other in model.graph.node if names.intersection(other.output)]
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        known = {
            item.name: _shape(item.type.tensor_type)
            for item in (*graph.value_info, *graph.output)
            if item.type.tensor_type.HasField("shape")
        }
        found = shapes(_up_to(model, before))
    except Exception:
        return ""  # the runtime's own words are told
    for other in before:
        for output in other.output:
            expected, has = known.get(output), found.get(output)
            if expected is not None and has is not None and not _fits(expected, has):
                return (
                    f"it gives the output of {other.op_type} ({place_of(other, model)}) the shape "
                    f"{_written(has)}, where ONNX defines {_written(expected)}"
                )
    return ""


def _before(node: Any, model: Any) -> Iterator[Any]:
    """What a node is computed from, the nearest first."""
    makers = {output: other for other in model.graph.node for output in other.output if output}
    ahead, seen = list(node.input), set()
    while ahead:
        name = ahead.pop(0)
        maker = makers.get(name)
        if maker is None or name in seen:
            continue
        seen.update(maker.output)
        yield maker
        ahead += maker.input


def _up_to(model: Any, nodes: list[Any]) -> Any:
    """The graph of some nodes, with all that they compute as outputs."""
    import onnx

    cut = copy.deepcopy(model)
    del cut.graph.node[:], cut.graph.output[:]
    cut.graph.node.extend(nodes)
    for node in nodes:
        cut.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name
        )
    return cut


def _shape(tensor: Any) -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)


def _fits(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    return len(one) == len(other) and all(
        a == b or a is None or b is None for a, b in zip(one, other, strict=True)
    )


def _written(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
