"""Accuracy control: layers go back to floating point, the most sensitive first.

The sensitivity of a layer is the signal-to-noise ratio (dB) of the outputs with only this layer
quantized: the lower, the more harmful. It is measured once, on calibration inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ....ray_workers.model.onnx_files import Arrays, layer_of
from ....ray_workers.model.sqnr import sqnr_db
from ....recipe.passes import AccuracyControl
from .job import producers, sweep
from .runners import outputs_of

Array = np.ndarray[Any, Any]
_SENSITIVITY_SAMPLES = 32
#: A weight that differs by no more than rounding to int8 (dB).
_ROUNDING = 20.0


@dataclass
class Controlled:
    """The result of accuracy control.

    Attributes:
        graph: With the layers put back.
        sensitivity: SQNR of the outputs with only this layer quantized (dB), by layer.
        put_back: Layers in floating point, in the order in which they were put back.
        before: Loss of quality with everything quantized.
        after: Loss of quality of `graph`.
        holds: Whether that is small enough.
    """

    graph: Any
    sensitivity: dict[str, float]
    put_back: list[str]
    before: float
    after: float
    holds: bool
    tries: list[tuple[int, float]] = field(default_factory=list)


def control(
    quantized: Any,
    source: Any,
    inputs: Arrays,
    drop: Callable[[Any], float],
    spec: AccuracyControl,
    progress: Callable[[int, int], None],
    runtimes: Sequence[str] = ("onnxruntime",),
) -> Controlled:
    """Put back as few layers as are needed to hold the quality: doubling, then halving the step.

    Args:
        quantized: The graph with all layers quantized.
        source: The float graph.
        inputs: Calibration inputs.
        drop: Loss of quality of a graph, on the validation split.
        spec: Of the recipe.
        progress: Called with the number of layers measured, and their total.
        runtimes: Those that will serve the graph.
    """
    layers = quantized_layers(quantized)
    before = drop(quantized)
    sensitivity = measure(quantized, source, layers, inputs, progress, runtimes)
    order = sorted(layers, key=lambda layer: sensitivity[layer])
    if before <= spec.at_most:
        return Controlled(quantized, sensitivity, [], before, before, True, [(0, before)])
    most = min(spec.most_layers or len(order) - 1, len(order))
    tries: dict[int, float] = {0: before}

    def at(count: int) -> float:
        if count not in tries:
            tries[count] = drop(put_back(quantized, source, order[:count]))
        return tries[count]

    count = 1
    while count < most and at(count) > spec.at_most:
        count = min(most, 2 * count)
    holds = at(count) <= spec.at_most
    if holds:
        low, high = count // 2, count
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if at(middle) <= spec.at_most else (middle, high)
        count = high
    chosen = order[:count]
    graph = put_back(quantized, source, chosen)
    return Controlled(graph, sensitivity, chosen, before, at(count), holds, sorted(tries.items()))


def quantized_layers(graph: Any) -> list[str]:
    """Layers that have a quantized input, in the graph's order."""
    made = producers(graph)
    found: dict[str, None] = {}
    for node in graph.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") and any(
            name in made and made[name].op_type == "DequantizeLinear" for name in node.input
        ):
            found.setdefault(layer_of(node))
    return list(found)


def measure(
    quantized: Any,
    source: Any,
    layers: list[str],
    inputs: Arrays,
    progress: Callable[[int, int], None],
    runtimes: Sequence[str] = ("onnxruntime",),
) -> dict[str, float]:
    """SQNR (dB) of the outputs with only one layer quantized, on the worst runtime, by layer."""
    few = {name: value[:_SENSITIVITY_SAMPLES] for name, value in inputs.items()}
    expected = outputs_of(source, few)
    found: dict[str, float] = {}
    for index, layer in enumerate(layers):
        others = [other for other in layers if other != layer]
        alone = put_back(quantized, source, others)
        found[layer] = min(
            sqnr_db(expected, outputs_of(alone, few, runtime=runtime)) for runtime in runtimes
        )
        progress(index + 1, len(layers))
    return found


def put_back(quantized: Any, source: Any, layers: Iterable[str]) -> Any:
    """A copy of a graph in which some layers compute in floating point again."""
    from onnx import numpy_helper

    graph = copy.deepcopy(quantized)
    made = producers(graph)
    values = {item.name: item for item in graph.graph.initializer}
    originals = {item.name: item for item in source.graph.initializer}
    chosen = set(layers)

    sources = {node.name: node for node in source.graph.node}

    def original_of(node: Any, position: int, rounded: str, unpacked: Array) -> Array | None:
        """The weight before it was rounded, unless the tool changed it otherwise, too."""
        own = originals.get(rounded.removesuffix("_quantized"))
        if own is not None:  # ONNX Runtime's tool rounds it and changes nothing else
            given: Array = numpy_helper.to_array(own)
            return given
        whole = sources.get(node.name)
        names = [whole.input[position]] if whole and position < len(whole.input) else []
        for name in names:
            if name in originals:
                weight: Array = numpy_helper.to_array(originals[name])
                if weight.shape == unpacked.shape and sqnr_db(weight, unpacked) > _ROUNDING:
                    return weight
        return None

    def plain(node: Any, position: int) -> str:
        """The value before it was rounded."""
        name = str(node.input[position])
        unpacking = made.get(name)
        if unpacking is None or unpacking.op_type != "DequantizeLinear":
            return name
        rounded = unpacking.input[0]
        rounding = made.get(rounded)
        if rounding is not None and rounding.op_type == "QuantizeLinear":
            return str(rounding.input[0])
        fresh = f"{name}_plain"
        if fresh not in values:
            unpacked = _unpacked(unpacking, values)
            original = original_of(node, position, rounded, unpacked)
            array = unpacked if original is None else original
            values[fresh] = numpy_helper.from_array(array, fresh)
            graph.graph.initializer.append(values[fresh])
        return fresh

    for node in graph.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") or layer_of(node) not in chosen:
            continue
        for position in range(len(node.input)):
            node.input[position] = plain(node, position)
    for output in graph.graph.output:
        _unround_output(graph, output.name, made, chosen)
    sweep(graph)
    return graph


def _unround_output(graph: Any, output: str, made: dict[str, Any], chosen: set[str]) -> None:
    """Let a layer that was put back write the graph's output directly, without rounding."""
    unpacking = made.get(output)
    if unpacking is None or unpacking.op_type != "DequantizeLinear":
        return
    rounding = made.get(unpacking.input[0])
    if rounding is None:
        return
    maker = made.get(rounding.input[0])
    if maker is None or layer_of(maker) not in chosen:
        return
    inner = str(rounding.input[0])
    graph.graph.node.remove(unpacking)
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == inner:
                    names[position] = output


def _unpacked(node: Any, values: dict[str, Any]) -> Array:
    from onnx import numpy_helper

    rounded, scale = (numpy_helper.to_array(values[name]) for name in node.input[:2])
    zero = numpy_helper.to_array(values[node.input[2]]) if len(node.input) > 2 else np.zeros(())
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    if scale.ndim == 1 and rounded.ndim > 1:
        shape = [1] * rounded.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.ndim else zero
    plain: Array = ((rounded.astype(np.float32) - zero.astype(np.float32)) * scale).astype(
        np.float32
    )
    return plain


def draw(found: Controlled, folder: Path) -> None:
    """Write a plot and a JSON file of the sensitivities."""
    import json

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    order = sorted(found.sensitivity, key=lambda layer: found.sensitivity[layer])[:60]
    colors = ["#c44" if layer in found.put_back else "#48a" for layer in order]
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.22 * len(order)))
    axes.barh(order, [found.sensitivity[layer] for layer in order], color=colors)
    axes.invert_yaxis()
    axes.set_xlabel("SQNR of the outputs with only this layer quantized (dB)")
    axes.set_title("Sensitivity of layers; red: back in floating point")
    figure.tight_layout()
    figure.savefig(folder / "sensitivity.png", dpi=110)
    pyplot.close(figure)
    said = {
        "sensitivity_db": found.sensitivity,
        "put_back": found.put_back,
        "drop_before": found.before,
        "drop_after": found.after,
        "tries": found.tries,
    }
    (folder / "sensitivity.json").write_text(json.dumps(said, indent=1))
