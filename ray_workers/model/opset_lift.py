"""Graphs of old opsets, rewritten in the words of a newer one.

ONNX's own converter knows no way for some operators (Upsample ends in a C++ assertion) and needs
shapes for others. Each function here rewrites one operator whose form changed up to opset 18
(https://github.com/onnx/onnx/blob/main/docs/Changelog.md); all others kept theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from ...recipe.errors import InputError
from .onnx_files import graphs_of

#: The opset that graphs are lifted to, and the oldest that is understood.
LIFTED, _OLDEST = 18, 7


def opset_of(model: Any) -> int:
    """The version of ONNX's own operators that a model uses."""
    return int(next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1))


def lift_opset(model: Any, where: str) -> None:
    """Rewrite a model of an opset below 18 for opset 18, in place.

    Raises:
        InputError: It is older than opset 7, or an operator has no form in opset 18.
    """
    version = opset_of(model)
    if version >= LIFTED:
        return
    if version < _OLDEST:
        raise InputError(
            f"it uses opset {version}; the oldest that can be compressed is {_OLDEST}",
            where=where,
            do=f"export it again with opset {LIFTED}",
        )
    for graph in list(graphs_of(model.graph)):
        lifting = _Lifting(graph, version, where)
        lifting.run()
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = LIFTED


class _Lifting:
    """Rewrites the nodes of one graph."""

    def __init__(self, graph: Any, version: int, where: str) -> None:
        self._graph = graph
        self._version = version
        self._where = where
        self._made = 0

    def run(self) -> None:
        nodes: list[Any] = []
        for node in self._graph.node:
            rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if rule is None or self._version >= rule[0]:
                nodes.append(node)
            else:
                nodes += rule[1](self, node) or [node]
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def constant(self, node: Any, what: str, values: Any, dtype: Any = np.int64) -> str:
        """The name of a new constant."""
        self._made += 1
        name = f"{node.output[0]}_{what}_{self._made}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def pop(self, node: Any, name: str, default: Any = None) -> Any:
        """An attribute's value, which the node then no longer has."""
        for attribute in node.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                node.attribute.remove(attribute)
                return value
        return default

    def put(self, node: Any, position: int, value: str) -> None:
        """Set an input; those before it that the node lacks are empty."""
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = value

    def to_input(self, node: Any, name: str, position: int) -> None:
        """An attribute of integers becomes an input."""
        values = self.pop(node, name)
        if values is not None:
            self.put(node, position, self.constant(node, name, values))

    def refuse(self, node: Any, why: str) -> InputError:
        return InputError(
            f"{node.op_type} '{node.name}' of opset {self._version} has no form in opset "
            f"{LIFTED}: {why}",
            where=self._where,
            do=f"export it again with opset {LIFTED}",
        )

    def upsample(self, node: Any) -> None:
        scales = self.pop(node, "scales")
        mode = self.pop(node, "mode", b"nearest")
        given = self.constant(node, "scales", scales, np.float32) if scales else node.input[1]
        source = node.input[0]
        node.op_type = "Resize"
        self._resize(node, source, given, mode)

    def resize(self, node: Any) -> None:
        if self._version < 11:
            mode = self.pop(node, "mode", b"nearest")
            self._resize(node, node.input[0], node.input[1], mode)

    def _resize(self, node: Any, source: str, scales: str, mode: bytes) -> None:
        """As opset 10 and older computed it: from the corner, rounded down."""
        del node.input[:]
        node.input.extend([source, "", scales])
        modes = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
        if mode == b"nearest":
            modes["nearest_mode"] = "floor"
        node.attribute.extend(helper.make_attribute(k, v) for k, v in modes.items())

    def slices(self, node: Any) -> None:
        starts, ends = self.pop(node, "starts"), self.pop(node, "ends")
        axes = self.pop(node, "axes", list(range(len(starts))))
        for position, (name, values) in enumerate(
            (("starts", starts), ("ends", ends), ("axes", axes)), start=1
        ):
            self.put(node, position, self.constant(node, name, values))

    def top_k(self, node: Any) -> None:
        count = self.pop(node, "k")
        if count is not None:
            self.put(node, 1, self.constant(node, "k", [count]))

    def clip(self, node: Any) -> None:
        for position, name in ((1, "min"), (2, "max")):
            bound = self.pop(node, name)
            if bound is not None:
                self.put(node, position, self.constant(node, name, bound, np.float32))

    def pad(self, node: Any) -> None:
        self.to_input(node, "pads", 1)
        value = self.pop(node, "value", 0.0)
        if value:
            self.put(node, 2, self.constant(node, "value", value, np.float32))

    def dropout(self, node: Any) -> list[Any]:
        if len(node.output) > 1 and node.output[1] and self._is_read(node.output[1]):
            raise self.refuse(node, "its mask is used")
        return [helper.make_node("Identity", node.input[:1], node.output[:1], node.name)]

    def _is_read(self, name: str) -> bool:
        inner = [n for graph in graphs_of(self._graph) for n in graph.node]
        return any(name in n.input for n in inner) or any(
            name == output.name for output in self._graph.output
        )

    def axes(self, node: Any) -> None:
        self.to_input(node, "axes", 1)

    def split(self, node: Any) -> None:
        self.to_input(node, "split", 1)
        if len(node.input) < 2:
            node.attribute.append(helper.make_attribute("num_outputs", len(node.output)))

    def softmax(self, node: Any) -> list[Any] | None:
        """Of opset 12 and older: over all axes from one on, as one."""
        axis = self.pop(node, "axis", 1)
        source, target = node.input[0], node.output[0]
        shape, flat, computed = (f"{target}_{what}" for what in ("shape", "flat", "computed"))
        node.attribute.append(helper.make_attribute("axis", -1))
        if axis == -1:
            return None
        node.input[0], node.output[0] = flat, computed
        make = helper.make_node
        return [
            make("Shape", [source], [shape], f"{node.name}_shape"),
            make("Flatten", [source], [flat], f"{node.name}_flat", axis=axis),
            node,
            make("Reshape", [computed, shape], [target], f"{node.name}_back"),
        ]

    def scatter(self, node: Any) -> None:
        node.op_type = "ScatterElements"

    def batch_norm(self, node: Any) -> None:
        if self.pop(node, "spatial", 1) != 1:
            raise self.refuse(node, "its statistics are of each position")
        del node.output[1:]

    def scan(self, node: Any) -> None:
        if self._version < 9:
            raise self.refuse(node, "it scans a batch")

    def roi_align(self, node: Any) -> None:
        mode = helper.make_attribute("coordinate_transformation_mode", "output_half_pixel")
        node.attribute.append(mode)


_Rule = Callable[[_Lifting, Any], list[Any] | None]
_REDUCTIONS = (
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip
#: By operator: the opset from which it has today's form, and how an older one is rewritten.
_RULES: dict[str, tuple[int, _Rule]] = {
    "Upsample": (LIFTED, _Lifting.upsample),
    "Resize": (11, _Lifting.resize),
    "Slice": (10, _Lifting.slices),
    "TopK": (10, _Lifting.top_k),
    "Clip": (11, _Lifting.clip),
    "Pad": (11, _Lifting.pad),
    "Dropout": (12, _Lifting.dropout),
    "Squeeze": (13, _Lifting.axes),
    "Unsqueeze": (13, _Lifting.axes),
    "ReduceSum": (13, _Lifting.axes),
    "Split": (LIFTED, _Lifting.split),
    "Softmax": (13, _Lifting.softmax),
    "LogSoftmax": (13, _Lifting.softmax),
    "Hardmax": (13, _Lifting.softmax),
    "Scatter": (11, _Lifting.scatter),
    "BatchNormalization": (14, _Lifting.batch_norm),
    "Scan": (9, _Lifting.scan),
    "RoiAlign": (16, _Lifting.roi_align),
    **dict.fromkeys(_REDUCTIONS, (LIFTED, _Lifting.axes)),
}
