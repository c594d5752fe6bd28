"""Rounding in quantized graphs that OpenVINO 2026.4 computes wrongly, or that gains it nothing.

OpenVINO moves the unpacking of 8-bit values (DequantizeLinear) behind the operators that follow.
For some that gives other numbers, and for some it fails, where ONNX Runtime computes the same graph
rightly.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from .onnx_files import graphs_of

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_WITH_WEIGHTS = _CONVOLUTIONS | _PRODUCTS | {"LSTM", "GRU", "RNN"}
_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish"})
_POSITIVE = frozenset({"Relu", "Softmax", "Sigmoid", "Exp", "Abs", "Sqrt", "HardSigmoid"})
#: Operators that compute with 8-bit values as they are.
_PASSING = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Reshape", "Transpose", "Squeeze", "Unsqueeze",
     "Flatten", "Slice", "Split", "Gather", "Expand", "Identity", "DepthToSpace", "SpaceToDepth",
     "Tile", "Concat", "Pad", "Relu", "Clip", "MaxPool"}
)  # fmt: skip
_IMAGE_LAYERS = _CONVOLUTIONS | {"MaxPool", "AveragePool"}
_SUMS = frozenset({"ReduceMean", "ReduceSum"})
#: Of images: (N, C, H, W).
_IMAGES = 4
_LOWEST = "lowest_float32"
_UINT8 = 2  # of onnx.TensorProto


def useful_rounding(model: Any) -> bool:
    """Leave only rounding that OpenVINO computes rightly and gains by, in place.

    Args:
        model: An ONNX model with QuantizeLinear and DequantizeLinear.

    Returns:
        Whether it was changed.
    """
    graph = model.graph
    changed, ranks = _unsigned_activations(graph), _ranks(model)
    while (
        _unpack_constants(graph)
        | _drop_useless_rounding(graph)
        | _keep_unpacking_in_place(graph, ranks)
    ):
        changed = True
    return changed


def _unsigned_activations(graph: Any) -> bool:
    """Round to uint8 what is rounded to int8 with a zero point: the same numbers, 128 higher.

    OpenVINO computes transposed convolutions and matrix products of such int8 values wrongly (a
    U-Net by NNCF: 23 dB instead of 53).

    Returns:
        Whether anything was changed.
    """
    from onnx import numpy_helper

    constants = {item.name: item for item in graph.initializer}
    read = _Readers(graph)
    zeros: dict[str, str] = {}
    unsigned: set[str] = set()
    for node in graph.node:
        if (
            node.op_type != "QuantizeLinear"
            or len(node.input) < 3
            or node.input[2] not in constants
        ):
            continue
        rounded, held = node.output[0], node.input[2]
        readers, zero = read.nodes[rounded], numpy_helper.to_array(constants[held])
        alike = all(r.op_type == "DequantizeLinear" and r.input[2:] == [held] for r in readers)
        if zero.dtype != np.int8 or not zero.any() or not alike or read.outside(rounded):
            continue
        if held not in zeros:
            zeros[held] = f"{held}_unsigned"
            higher = (zero.astype(np.int16) + 128).astype(np.uint8)
            graph.initializer.append(numpy_helper.from_array(higher, zeros[held]))
        for other in (node, *readers):
            other.input[2] = zeros[held]
        for attribute in node.attribute:
            if attribute.name == "output_dtype":
                attribute.i = _UINT8
        unsigned.add(rounded)
    for value in graph.value_info:
        if value.name in unsigned:
            value.type.tensor_type.elem_type = _UINT8
    return bool(unsigned)


def _unpack_constants(graph: Any) -> bool:
    """Unpack 8-bit constants that no layer with weights and no Gather reads, in place.

    Returns:
        Whether there were any.
    """
    from onnx import numpy_helper

    read = _Readers(graph)
    constants = {item.name: item for item in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or not {*node.input} <= {*constants}:
            continue
        name = str(node.output[0])
        if read.outside(name) or read.computing(name) & _WITH_WEIGHTS:
            continue
        if any(reader.op_type == "Gather" for reader in read.nodes[name]):
            continue
        values, scale, *zero = (numpy_helper.to_array(constants[name]) for name in node.input)
        if scale.size > 1:
            continue  # by channel
        plain = (values.astype(np.int32) - int(zero[0].reshape(())) if zero else values) * scale
        graph.initializer.append(numpy_helper.from_array(plain.astype(scale.dtype), name))
        found.append(node)
    for node in found:
        graph.node.remove(node)
    return bool(found)


def _drop_useless_rounding(graph: Any) -> bool:
    """Take rounding away that no layer with weights reads, and no convolution wrote, in place.

    Around additions, products and softmax it costs quality, saves OpenVINO no time, and sometimes
    ends the process (a Time Series Transformer: SIGSEGV).

    Returns:
        Whether anything was taken away.
    """
    read = _Readers(graph)
    made = {output: node for node in graph.node for output in node.output}
    constants = {item.name: item for item in graph.initializer}
    dead: list[Any] = []
    clips: dict[str, Any] = {}
    moved = False
    for node in graph.node:
        rounding = made.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if rounding is None or rounding.op_type != "QuantizeLinear":
            continue
        plain, rounded = str(rounding.input[0]), str(node.output[0])
        bounds = _bounds(rounding, constants)
        if bounds is None or _of_convolution(plain, made):
            continue
        layers = read.computing(rounded) & _WITH_WEIGHTS
        if layers or read.outside(rounded):
            if not layers & _CONVOLUTIONS and (bounds[0] < 0 or _is_positive(plain, made)):
                moved |= read.let_others_read(rounded, plain)
            continue
        if bounds[0] < 0 or _is_positive(plain, made):
            read.rename(rounded, plain)
            dead.append(node)
        else:
            clips[node.output[0]] = [plain, *bounds]
        if read.nodes[rounding.output[0]] == [node] and not read.outside(rounding.output[0]):
            dead.append(rounding)
        else:
            read.nodes[rounding.output[0]].remove(node)
    for node in dead:
        graph.node.remove(node)
    for node in graph.node:
        if node.output[0] in clips:
            _make_clip(graph, node, *clips[node.output[0]])
    return bool(dead or clips or moved)


def _keep_unpacking_in_place(graph: Any, ranks: dict[str, Any]) -> bool:
    """Stop the unpacking of 8-bit values before sums and padding, and behind concatenations and
    matrix products, in place.

    A mean or a sum over an axis of three is wrong if it is moved behind it (-5 dB; a transformer
    that averages its tokens lost everything), and so is the product of a value with itself. Values
    of several scales that are concatenated along another axis than the channels' get a zero point
    for each place, which a matrix product behind refuses ("[MatMulTransformation] END"); so do
    values that are padded, for which a Gather fails ("Argument shapes are inconsistent"), and the
    scales of a product's channels before a Reshape or a Gather ("[ReshapeTransformation] END"). An
    addition of values whose axes were turned (MobileViT's patches) is wrong (-4 dB), and so is a
    group normalization (-7 dB).
    The channels' factors before the rounding of rows (NNCF's smoothing of what a mean of tokens
    gives to the last layer) are not computed rightly as part of it (-7 to 10 dB, by what follows).
    OpenVINO moves nothing past a maximum, which with the lowest number changes no value. Images
    that convolutions compute with stay in 8 bits.

    Returns:
        Whether anything was changed.
    """
    from onnx import helper, numpy_helper

    constants = {item.name: item for item in graph.initializer}
    read = _Readers(graph)
    made = {output: node for node in graph.node for output in node.output}
    stops = [node for node in graph.node if _LOWEST in node.input]
    before, behind = {node.input[0] for node in stops}, {node.output[0] for node in stops}
    products = _products(graph, read, made, constants)
    nodes: list[Any] = []
    for node in graph.node:
        if not behind & {*node.input} and (
            _is_scaled_row(node, ranks, made, constants)
            or _is_sum(node, ranks, constants)
            or _is_padded(node, ranks, read)
            or _is_turned(node, read, made)
        ):
            name = f"{node.output[0]}_unpacked"
            nodes.append(helper.make_node("Max", [node.input[0], _LOWEST], [name], name))
            node.input[0] = name
        nodes.append(node)
        if node.output[0] in before:
            continue
        if node.output[0] in products or _is_joined(node, ranks):
            output, node.output[0] = node.output[0], f"{node.output[0]}_packed"
            nodes.append(helper.make_node("Max", [node.output[0], _LOWEST], [output], output))
    changed = len(nodes) > len(graph.node)
    if changed and _LOWEST not in constants:
        lowest = np.array(np.finfo(np.float32).min)
        graph.initializer.append(numpy_helper.from_array(lowest, _LOWEST))
    if changed:
        del graph.node[:]
        graph.node.extend(nodes)
    return changed


def _is_scaled_row(
    node: Any, ranks: dict[str, Any], made: dict[str, Any], constants: dict[str, Any]
) -> bool:
    """Whether a node rounds (N, C) values that were multiplied by a factor for each channel."""
    factors = made.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
    if factors is None or factors.op_type != "Mul" or ranks.get(node.input[0], (None,))[0] != 2:
        return False
    return any(np.prod(constants[i].dims) > 1 for i in factors.input if i in constants)


def _is_sum(node: Any, ranks: dict[str, Any], constants: dict[str, Any]) -> bool:
    """Whether a node is a sum of floats, and not over several axes of images."""
    if node.op_type not in _SUMS:
        return False
    rank, is_float = ranks.get(node.input[0], (None, False))
    axes = next((len(a.ints) for a in node.attribute if a.name == "axes"), 0)
    if len(node.input) > 1 and node.input[1] in constants:
        axes = int(np.prod(constants[node.input[1]].dims))
    return is_float and (rank != _IMAGES or axes == 1)


def _is_padded(node: Any, ranks: dict[str, Any], read: _Readers) -> bool:
    """Whether a node pads floats that are not a convolution's image."""
    if node.op_type != "Pad" or not ranks.get(node.input[0], (None, False))[1]:
        return False
    return not read.by_images(node.output[0])


def _is_turned(node: Any, read: _Readers, made: dict[str, Any]) -> bool:
    """Whether a node gives values other axes: 8-bit ones, which more than layers with weights read,
    or those of a group normalization.
    """
    if node.op_type not in ("Reshape", "Transpose"):
        return False
    if any(r.op_type == "InstanceNormalization" for r in read.nodes[node.output[0]]):
        return True
    unpacking = made.get(node.input[0])
    is_rounded = unpacking is not None and _unpacks(unpacking) and unpacking.input[0] in made
    return is_rounded and bool(read.computing(node.output[0]) - _WITH_WEIGHTS)


def _products(
    graph: Any, read: _Readers, made: dict[str, Any], constants: dict[str, Any]
) -> set[str]:
    """What 8-bit matrix products give, with bias and ReLU, where it is not rounded at once."""
    found: set[str] = set()
    for node in graph.node:
        inputs = [made.get(name) for name in node.input]
        if node.op_type not in _PRODUCTS or not any(map(_unpacks, inputs)):
            continue
        last = str(node.output[0])
        while len(read.nodes[last]) == 1 and _is_fused(read.nodes[last][0], made, constants):
            last = str(read.nodes[last][0].output[0])
        if any(reader.op_type != "QuantizeLinear" for reader in read.nodes[last]):
            found.add(last)
    return found


def _unpacks(node: Any) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _is_fused(node: Any, made: dict[str, Any], constants: dict[str, Any]) -> bool:
    """Whether a node is a ReLU, or adds a constant."""

    def fixed(name: str) -> bool:
        return name in constants or (_unpacks(made.get(name)) and made[name].input[0] in constants)

    return node.op_type == "Relu" or (node.op_type == "Add" and any(map(fixed, node.input)))


def _is_joined(node: Any, ranks: dict[str, Any]) -> bool:
    """Whether floats are concatenated along another axis than that of an image's channels."""
    if node.op_type != "Concat":
        return False
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    rank, is_float = ranks.get(node.output[0], (None, False))
    return is_float and not (rank == _IMAGES and axis in (1, 1 - _IMAGES))


def _bounds(rounding: Any, constants: dict[str, Any]) -> tuple[float, float] | None:
    """The lowest and the highest number that are left after a rounding; None: by channel, or not
    known.
    """
    from onnx import numpy_helper

    if len(rounding.input) < 3 or not {*rounding.input[1:3]} <= {*constants}:
        return None
    scale, zero = (numpy_helper.to_array(constants[name]) for name in rounding.input[1:3])
    if scale.size != 1 or zero.dtype not in (np.uint8, np.int8):
        return None
    ends, zero = np.iinfo(zero.dtype), int(zero.reshape(()))
    factor = float(scale.reshape(()))
    return (ends.min - zero) * factor, (ends.max - zero) * factor


def _is_positive(name: str, made: dict[str, Any]) -> bool:
    """Whether a value has no negative numbers, whatever its inputs are."""
    node = made.get(name)
    return node is not None and node.op_type in _POSITIVE


def _make_clip(graph: Any, node: Any, plain: str, low: float, high: float) -> None:
    """Let a node cut off what the rounding cut off, and nothing else: some quantizers leave out a
    ReLU that the range behind it stands for.
    """
    from onnx import numpy_helper

    names = [f"{node.output[0]}_low", f"{node.output[0]}_high"]
    for name, value in zip(names, (low, high), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    node.op_type, node.input[:] = "Clip", [plain, *names]
    del node.attribute[:]


def _of_convolution(name: str, made: dict[str, Any]) -> bool:
    """Whether a convolution computed a value, maybe with an activation."""
    node = made.get(name)
    if node is not None and node.op_type in _ACTIVATIONS:
        node = made.get(node.input[0])
    if node is not None and node.op_type == "Add":  # a bias
        node = made.get(node.input[0])
    return node is not None and node.op_type in _CONVOLUTIONS


class _Readers:
    """Who reads the values of a graph.

    Args:
        graph: The main graph.
    """

    def __init__(self, graph: Any) -> None:
        self.nodes: dict[str, list[Any]] = defaultdict(list)
        self._outside = {item.name for item in graph.output}
        for node in graph.node:
            for name in node.input:
                self.nodes[name].append(node)
        for inner in graphs_of(graph):
            if inner is not graph:
                self._outside |= {name for node in inner.node for name in node.input}
                self._outside |= {output.name for output in inner.output}

    def outside(self, name: str) -> bool:
        """Whether a value leaves the graph, or the body of an If, Loop or Scan reads it."""
        return name in self._outside

    def computing(self, name: str) -> set[str]:
        """Which kinds of operators compute with a value, maybe behind some that only pass it on."""
        left, seen, found = [name], {name}, set()
        while left:
            for node in self.nodes[left.pop()]:
                if node.op_type not in _PASSING:
                    found.add(str(node.op_type))
                    continue
                left += {*node.output} - seen
                seen.update(node.output)
        return found

    def let_others_read(self, old: str, new: str) -> bool:
        """Let operators that don't compute with 8 bits read another value.

        Returns:
            Whether there was one.
        """
        others = [n for n in self.nodes[old] if n.op_type not in _WITH_WEIGHTS | _PASSING]
        for node in others:
            node.input[:] = [new if name == old else name for name in node.input]
            self.nodes[old].remove(node)
            self.nodes[new].append(node)
        return bool(others)

    def by_images(self, name: str) -> bool:
        """Whether nothing but convolutions and pooling read a value."""
        left, found = [name], False
        while left:
            for node in self.nodes[left.pop()]:
                if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                    left += node.output
                elif node.op_type not in _IMAGE_LAYERS:
                    return False
                found = True
        return found

    def rename(self, old: str, new: str) -> None:
        """Let all readers of a value read another."""
        for node in self.nodes.pop(old, []):
            node.input[:] = [new if name == old else name for name in node.input]
            self.nodes[new].append(node)


def _ranks(model: Any) -> dict[str, tuple[int | None, bool]]:
    """Of values whose type can be inferred: how many axes they have, and if they are float32."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except Exception:
        return {}  # what OpenVINO makes of it is told
    found: dict[str, tuple[int | None, bool]] = {}
    for item in (*inferred.value_info, *inferred.input, *inferred.output):
        tensor = item.type.tensor_type
        rank = len(tensor.shape.dim) if tensor.HasField("shape") else None
        found[item.name] = (rank, tensor.elem_type == onnx.TensorProto.FLOAT)
    return found
