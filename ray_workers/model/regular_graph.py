"""The one form of a graph that all passes take, made of any that ONNX allows.

Tools that quantize look for weights among the constants of the main graph, and for operators of
today's opset. A legal file may have its layers in local functions, its weights in Constant nodes or
among the inputs, and a bias of another shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, inliner, numpy_helper

from ...recipe.errors import StepFailed
from ...recipe.library_messages import telling
from .onnx_files import graphs_of, name_nodes
from .opset_lift import lift_opset, opset_of

#: IR version 8 is of opset 15 and 16; every runtime reads it.
_IR = 8
#: From this opset on all tools work as they are.
_TODAY = 13


def regular(model: Any, where: str) -> Any:
    """A model in the form that passes take: it computes the same.

    Local functions are inlined, constants are no inputs, weights in Constant and Identity nodes are
    constants of the graph, opsets below 13 are lifted, and biases have one axis.

    Args:
        model: Changed, unless it has local functions.
        where: What an error calls it.

    Raises:
        InputError: Its opset is too old.
        StepFailed: Its functions can't be inlined.
    """
    if model.functions:
        try:
            model = inliner.inline_local_functions(model, True)
        except Exception as error:
            raise StepFailed(
                f"its local functions can't be inlined: {telling(error)}", where=where
            ) from error
    constants = {item.name for item in model.graph.initializer}
    for item in [item for item in model.graph.input if item.name in constants]:
        model.graph.input.remove(item)
    model.ir_version = max(model.ir_version, _IR)
    if opset_of(model) < _TODAY:
        lift_opset(model, where)
        del model.graph.value_info[:]
    for graph in list(graphs_of(model.graph)):
        _gather_constants(graph)
        _flatten_biases(graph)
    name_nodes(model)
    return model


def _gather_constants(graph: Any) -> None:
    """Constant nodes, and names of constants, become constants of their graph."""
    outputs = {item.name for item in graph.output}
    known = {item.name for item in graph.initializer}
    renamed: dict[str, str] = {}
    kept: list[Any] = []
    for node in graph.node:
        tensor = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and tensor is not None and node.output[0] not in outputs:
            item = graph.initializer.add()
            item.CopyFrom(tensor)
            item.name = node.output[0]
            known.add(item.name)
        elif (
            node.op_type == "Identity"
            and node.input[0] in known | renamed.keys()
            and node.output[0] not in outputs
        ):
            renamed[node.output[0]] = renamed.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    if len(kept) == len(graph.node):
        return
    del graph.node[:]
    graph.node.extend(kept)
    for inner in graphs_of(graph):
        for node in inner.node:
            for position, name in enumerate(node.input):
                if name in renamed:
                    node.input[position] = renamed[name]
        for output in inner.output:
            if inner is not graph and output.name in renamed:
                inner.node.append(
                    helper.make_node("Identity", [renamed[output.name]], [output.name])
                )


def _flatten_biases(graph: Any) -> None:
    """The bias of a Gemm has one axis, as quantizers expect; a whole matrix is added after it."""
    constants = {item.name: item for item in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[2] not in constants:
            continue
        name, weight = node.input[2], constants.get(node.input[1])
        bias = numpy_helper.to_array(constants[name])
        if weight is None or (bias.ndim == 1 and bias.size > 1):
            continue
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        width = int(weight.dims[0 if options.get("transB") else 1])
        if bias.size not in (1, width) or (bias.ndim == 2 and bias.shape[0] != 1):
            nodes += _added_after(graph, node, bias * np.float32(options.get("beta", 1.0)))
            continue
        flat = np.broadcast_to(bias.reshape(-1), (width,)).copy()
        graph.initializer.append(numpy_helper.from_array(flat, f"{node.output[0]}_bias"))
        node.input[2] = f"{node.output[0]}_bias"
    del graph.node[:]
    graph.node.extend(nodes)


def _added_after(graph: Any, node: Any, bias: Any) -> list[Any]:
    name, output = f"{node.output[0]}_bias", str(node.output[0])
    graph.initializer.append(numpy_helper.from_array(np.asarray(bias), name))
    del node.input[2:]
    node.output[0] = f"{output}_product"
    return [helper.make_node("Add", [node.output[0], name], [output], f"{node.name}_bias")]
