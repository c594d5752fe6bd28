"""A graph in the form that OpenVINO computes rightly: the same, without what OpenVINO 2026.4 gets
wrong without an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .onnx_files import graphs_of
from .openvino_rounding import useful_rounding
from .spectrums import plain_spectrums

_BIASED = ("Conv", "ConvTranspose")
_FLOAT, _DOUBLE = 1, 11  # of onnx.TensorProto


def for_openvino(model: Any) -> bool:
    """Rewrite what OpenVINO computes wrongly or refuses, in place.

    Rounding (`openvino_rounding.py`), biases of quantized convolutions, float64 inputs of quantized
    graphs, and Fourier transforms.

    Args:
        model: An ONNX model.

    Returns:
        Whether it was changed.
    """
    done = [_plain_transforms(model), plain_spectrums(model.graph)]
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        done += [
            useful_rounding(model),
            _separate_biases(model.graph),
            _single_inputs(model.graph),
        ]
    return any(done)


def _single_inputs(graph: Any) -> bool:
    """Declare float64 inputs that are only cast to float32 as such: OpenVINO converts what it gets.

    In a quantized graph OpenVINO joins the cast and the rounding after it, and has no kernel for
    what comes out ("CPU plugin does not support f64 for use with oneDNN").
    """
    changed = False
    kept = {output.name for output in graph.output}
    for item in graph.input:
        tensor = item.type.tensor_type
        if tensor.elem_type != _DOUBLE or item.name in kept or _in_bodies(graph, item.name):
            continue
        readers = [node for node in graph.node if item.name in node.input]
        if readers and all(node.op_type == "Cast" and _to(node) == _FLOAT for node in readers):
            tensor.elem_type = _FLOAT
            changed = True
    return changed


def _to(node: Any) -> int:
    return next(int(a.i) for a in node.attribute if a.name == "to")


def _in_bodies(graph: Any, name: str) -> bool:
    """Whether the body of an If, Loop or Scan reads a value."""
    inner = [g for g in graphs_of(graph) if g is not graph]
    return any(name in node.input for body in inner for node in body.node)


def _separate_biases(graph: Any) -> bool:
    """Make the biases of a quantized graph's convolutions additions of their own.

    OpenVINO loses the bias of an int8 convolution if the graph has an Expand anywhere (a Swin
    transformer: 5 dB instead of 25; so has whatever repeats a token or a mask over the batch). Of
    the two nodes it makes one again by itself.
    """
    from onnx import helper, numpy_helper

    weights = {item.name: len(item.dims) for item in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    nodes: list[Any] = []
    changed = False
    for node in graph.node:
        nodes.append(node)
        if node.op_type not in _BIASED or len(node.input) < 3 or not node.input[2]:
            continue
        source = node.input[1]
        while source in made and source not in weights:
            source = made[source].input[0]
        axes = weights.get(source)
        if axes is None:
            continue
        bias, output = str(node.input[2]), str(node.output[0])
        shape = np.array([1, -1, *[1] * (axes - 2)], np.int64)
        graph.initializer.append(numpy_helper.from_array(shape, f"{output}_bias_shape"))
        changed = True
        del node.input[2:]
        node.output[0] = f"{output}_without_bias"
        reshaped = f"{output}_bias"
        nodes += [
            helper.make_node("Reshape", [bias, f"{output}_bias_shape"], [reshaped], reshaped),
            helper.make_node("Add", [node.output[0], reshaped], [output], f"{node.name}_bias"),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def _plain_transforms(model: Any) -> bool:
    """Make each DFT a two-sided one, over axis 1 from opset 20 on.

    OpenVINO ignores the axis where it is an input, which it is from opset 20 on, and takes axis 1
    (FNet: -3 dB); of one-sided transforms of real numbers it keeps an axis too many.
    """
    import onnx

    graph = model.graph
    if all(node.op_type != "DFT" for node in graph.node):
        return False
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except Exception:
        return False  # what OpenVINO makes of it is told
    shapes = {
        item.name: [d.dim_value if d.HasField("dim_value") else None for d in t.shape.dim]
        for item in (*inferred.value_info, *inferred.input)
        if (t := item.type.tensor_type).HasField("shape")
    }
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    nodes: list[Any] = []
    for node in graph.node:
        nodes += _transform(node, graph, shapes.get(node.input[0]), opset) or [node]
    changed = len(nodes) > len(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def _transform(
    node: Any, graph: Any, shape: list[int | None] | None, opset: int
) -> list[Any] | None:
    """The nodes that stand for a DFT; None: it stays as it is."""
    from onnx import helper, numpy_helper

    if node.op_type != "DFT" or node.domain not in ("", "ai.onnx") or shape is None:
        return None
    constants = {item.name: item for item in graph.initializer}
    for other in graph.node:
        if other.op_type == "Constant" and other.attribute[0].name == "value":
            constants[other.output[0]] = other.attribute[0].t
    given = {a.name: a.i for a in node.attribute}
    names = [*node.input, "", ""][:3]
    if any(name and name not in constants for name in names[1:]):
        return None
    axis = given.get("axis", 1) if opset < 20 else -2
    if names[2]:
        axis = int(numpy_helper.to_array(constants[names[2]]))
    axis %= len(shape)
    size = int(numpy_helper.to_array(constants[names[1]])) if names[1] else shape[axis]
    onesided = bool(given.get("onesided"))
    swaps = opset >= 20 and axis != 1
    if (onesided and (given.get("inverse") or size is None)) or not (onesided or swaps):
        return None
    output = str(node.output[0])
    perm = list(range(len(shape)))
    perm[1], perm[axis] = (axis, 1) if swaps else (perm[1], perm[axis])

    def constant(what: str, value: Any) -> str:
        name = f"{output}_{what}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.int64), name))
        return name

    at = 1 if opset >= 20 else axis
    inputs = [f"{output}_turned" if swaps else names[0], names[1]]
    options: dict[str, Any] = {"inverse": given.get("inverse", 0)}
    if opset >= 20:
        inputs.append(constant("axis", 1))
    else:
        options["axis"] = axis
    found = [helper.make_node("DFT", inputs, [f"{output}_whole"], node.name, **options)]
    found[0].metadata_props.extend(node.metadata_props)
    last = f"{output}_whole"
    if swaps:
        found.insert(0, helper.make_node("Transpose", [names[0]], [inputs[0]], perm=perm))
    if onesided:
        assert size is not None  # looked at above  # noqa: S101 (narrows a type)
        cut = [constant("from", [0]), constant("to", [size // 2 + 1]), constant("at", [at])]
        found.append(helper.make_node("Slice", [last, *cut], [f"{output}_half"]))
        last = f"{output}_half"
    if swaps:
        found.append(helper.make_node("Transpose", [last], [output], perm=perm))
    else:
        found[-1].output[0] = output
    return found
