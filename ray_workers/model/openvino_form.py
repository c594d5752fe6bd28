"""A quantized graph in the form that OpenVINO computes rightly."""

from __future__ import annotations

from typing import Any

import numpy as np

_BIASED = ("Conv", "ConvTranspose")


def for_openvino(model: Any) -> bool:
    """Make the biases of a quantized graph's convolutions additions of their own, in place.

    OpenVINO 2026.4 loses the bias of an int8 convolution, without an error, if the graph has an
    Expand anywhere (a Swin transformer: 5 dB instead of 25; so has whatever repeats a token or a
    mask over the batch). Of the two nodes it makes one again by itself.

    Args:
        model: An ONNX model.

    Returns:
        Whether it was changed.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    if all(node.op_type != "QuantizeLinear" for node in graph.node):
        return False
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
