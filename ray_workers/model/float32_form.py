"""A graph of fp16, bf16 or double numbers as one of fp32, which is what quantizers read.

Its weights become integers anyway; what stays in floating point is computed in fp32, which is at
least as exact, and on a processor faster. Inputs and outputs keep their types.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .onnx_files import graphs_of

_OTHER = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
#: Attributes that name the type of a result.
_TYPES = ("to", "dtype", "output_dtype", "stash_type")


def has_other_floats(model: Any) -> str | None:
    """The name of a floating-point type of weights other than fp32; None if there is none."""
    for graph in graphs_of(model.graph):
        for item in graph.initializer:
            if item.data_type in _OTHER and len(item.dims) > 1:
                return str(TensorProto.DataType.Name(item.data_type)).lower()
    return None


def as_float32(model: Any) -> None:
    """Compute in fp32, in place; inputs and outputs of the graph are cast."""
    for graph in graphs_of(model.graph):
        for item in graph.initializer:
            _convert(item)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in _TYPES and attribute.i in _OTHER:
                    attribute.i = TensorProto.FLOAT
                if attribute.HasField("t"):
                    _convert(attribute.t)
        values = [*graph.value_info]
        values += [] if graph is model.graph else [*graph.input, *graph.output]
        for value in values:
            if value.type.tensor_type.elem_type in _OTHER:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
    _cast_inputs(model.graph)
    _cast_outputs(model.graph)


def _convert(tensor: Any) -> None:
    if tensor.data_type in _OTHER:
        name = tensor.name
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, name))


def _cast_inputs(graph: Any) -> None:
    for item in graph.input:
        if item.type.tensor_type.elem_type not in _OTHER:
            continue
        inner = f"{item.name}_float32"
        for owner in graphs_of(graph):
            for node in owner.node:
                for position, name in enumerate(node.input):
                    if name == item.name:
                        node.input[position] = inner
        cast = helper.make_node("Cast", [item.name], [inner], inner, to=TensorProto.FLOAT)
        graph.node.insert(0, cast)


def _cast_outputs(graph: Any) -> None:
    for item in graph.output:
        kind = item.type.tensor_type.elem_type
        if kind not in _OTHER:
            continue
        inner = f"{item.name}_float32"
        for owner in graphs_of(graph):
            for node in owner.node:
                for names in (node.input, node.output):
                    for position, name in enumerate(names):
                        if name == item.name:
                            names[position] = inner
        graph.node.append(helper.make_node("Cast", [inner], [item.name], inner, to=kind))
