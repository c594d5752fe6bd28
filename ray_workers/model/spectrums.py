"""Short-time Fourier transforms (spectrograms of sound) as convolutions with the windowed waves.

ONNX Runtime computes the convolution up to 10 times faster for windows of up to 512 numbers, or of
another size than a power of two (`tests/benchmarks/spectrums.py`), and OpenVINO can't convert a
convolution that follows its own operator, of whose output it does not know the number of axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: A transform with more weights than this stays what it is.
_MOST = 2**24
#: From this size on, a fast Fourier transform is faster, if the size is a power of two.
_FAST = 1024


def plain_spectrums(graph: Any, slow_ones_only: bool = False) -> bool:
    """Replace each STFT of a real signal with a constant window by a convolution, in place.

    Args:
        graph: Of an ONNX model, from opset 17 on.
        slow_ones_only: Leave those that ONNX Runtime computes faster by its own operator.

    Returns:
        Whether anything was replaced.
    """
    from onnx import numpy_helper

    constants = {item.name: item for item in graph.initializer}
    real = {node.output[0] for node in graph.node if node.op_type == "Unsqueeze"}
    nodes: list[Any] = []
    for node in graph.node:
        made = None
        if node.op_type == "STFT" and all(name in constants for name in node.input[1:3]):
            step, window = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            fast = len(window) >= _FAST and len(window).bit_count() == 1
            one_sided = next((a.i for a in node.attribute if a.name == "onesided"), 1)
            # A two-sided one may be of a complex signal, (N, L, 2).
            if (one_sided or node.input[0] in real) and not (slow_ones_only and fast):
                made = _convolution(node, graph, int(step), window, bool(one_sided))
        nodes += made or [node]
    changed = len(nodes) > len(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def _convolution(
    node: Any, graph: Any, step: int, window: Any, one_sided: bool
) -> list[Any] | None:
    """(N, L, 1) to (N, frames, bins, 2), the real and the imaginary part; None: it is too large."""
    from onnx import helper, numpy_helper

    size = len(window)
    bins = size // 2 + 1 if one_sided else size
    if 2 * bins * size > _MOST:
        return None
    angle = 2 * np.pi * (np.outer(np.arange(bins), np.arange(size)) % size) / size
    waves = np.stack([np.cos(angle), -np.sin(angle)]) * window.astype(np.float64)
    name = str(node.output[0])
    signal, parts, apart = (f"{name}_{what}" for what in ("signal", "parts", "apart"))
    for what, value in (
        ("waves", waves.reshape(2 * bins, 1, size).astype(window.dtype)),
        ("shape", np.array([0, 2, bins, -1], np.int64)),
    ):
        graph.initializer.append(numpy_helper.from_array(value, f"{name}_{what}"))
    return [
        helper.make_node("Transpose", [node.input[0]], [signal], signal, perm=[0, 2, 1]),
        helper.make_node(
            "Conv", [signal, f"{name}_waves"], [parts], parts, strides=[step], kernel_shape=[size]
        ),
        helper.make_node("Reshape", [parts, f"{name}_shape"], [apart], apart),
        helper.make_node("Transpose", [apart], [name], str(node.name) or name, perm=[0, 3, 2, 1]),
    ]
