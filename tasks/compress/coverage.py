"""What a pass did with each layer: done, or left as it was and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ...ray_workers.model.onnx_files import graphs_of, layer_of
from ...ray_workers.workspace import Result
from ...recipe.errors import NothingChanged
from ...recipe.measures import bytes_in_words
from ..specs.compress import Coverage, LayerCoverage
from .schemes.job import HEAVY, RECURRENT, QuantizeJob, constants_in, producers

_INTEGER = ("MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "QGemm", "QLinearMatMul",
            "QLinearConv", "MatMulNBits", "MatMulIntegerToFloat")  # fmt: skip
#: Runtimes unpack 8-bit values behind these, which only move numbers, not before them.
_MOVES = ("Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_SHOWN = 4
#: A file this many times larger than expected is worth a word.
_LARGER = 1.5
#: So much is, where every layer was changed (bytes).
_NOTEWORTHY = 2**20
#: Reasons that the recipe itself gives.
SKIPPED, PUT_BACK = "it is in skip_layers", "accuracy control put it back"
_WANTED = (SKIPPED, PUT_BACK)


def of_quantization(
    job: QuantizeJob, made: Any, scheme: str, reasons: dict[str, str], bits: int
) -> Coverage:
    """Each convolution, matrix product and recurrent layer of a quantized graph.

    Args:
        job: The float graph.
        made: The quantized graph.
        scheme: Its name.
        reasons: Why layers were left, by their name, as far as the caller knows.
        bits: Of a quantized weight.
    """
    weights_only = scheme.startswith("weight-") or scheme == "dynamic-int8"
    layers: list[LayerCoverage] = []
    for graph in graphs_of(made.graph):
        known = constants_in(made.graph) | constants_in(graph)
        makers = producers(made) | {o: n for n in graph.node for o in n.output}
        unpacked = {name: n for name, n in makers.items() if n.op_type == "DequantizeLinear"}
        for node in graph.node:
            count = _weights(node, known, unpacked)
            if node.op_type in _INTEGER:
                layers.append(_entry(node, count, None))
                continue
            if node.op_type not in (*HEAVY, *RECURRENT) or (weights_only and not count):
                continue
            rounded = [_is_unpacked(makers, name) for name in node.input[:3]]
            done = any(rounded[1:]) if weights_only else all(rounded[:2])
            body = graph is not made.graph
            why = None if done else reasons.get(layer_of(node)) or _why(node, count, scheme, body)
            layers.append(_entry(node, count, why))
    saved = sum(layer.weights for layer in layers) * (32 - bits) // 8
    expected = max(0, job.graph.ByteSize() - saved) if not job.large else 0
    actual = made.ByteSize() if not job.large else 0
    return Coverage(layers=tuple(layers), expected_bytes=expected, bytes=actual)


def of_module(
    before: nn.Module, after: nn.Module, skipped: Iterable[str], reasons: Mapping[str, str] = {}
) -> Coverage:
    """Each linear layer and convolution of a module: whether a pass changed its weights.

    Args:
        before: The module.
        after: What the pass made of it.
        skipped: Layers that the recipe skips.
        reasons: Why the pass left others, by their name, where it knows.
    """
    weights = dict(after.named_parameters(remove_duplicate=False))
    layers = []
    for name, module in before.named_modules():
        if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            continue
        now = weights.get(f"{name}.weight" if name else "weight")
        why = None
        if now is not None and torch.equal(now.detach(), module.weight.detach()):
            why = SKIPPED if name in skipped else reasons.get(name, "the pass left it as it was")
        layers.append(module_entry(name, module, why))
    return Coverage(layers=tuple(layers))


def module_entry(
    name: str, module: nn.Linear | nn.modules.conv._ConvNd, why: str | None
) -> LayerCoverage:
    """A layer of a module, and why a pass left it; None: it did not."""
    return LayerCoverage(
        layer=name,
        operator=type(module).__name__,
        weights=module.weight.numel(),
        left_because=why,
    )


def _entry(node: Any, count: int, why: str | None) -> LayerCoverage:
    return LayerCoverage(
        layer=layer_of(node).removesuffix("_quant"),
        operator=str(node.op_type),
        weights=count,
        left_because=why,
    )


def _is_unpacked(made: dict[str, Any], name: str) -> bool:
    """Whether a value is unpacked from 8 bits, and moved at most."""
    while name in made and made[name].op_type in _MOVES:
        name = str(made[name].input[0])
    return name in made and made[name].op_type == "DequantizeLinear"


def _weights(node: Any, constants: dict[str, Any], unpacked: dict[str, Any]) -> int:
    """How many numbers the weights of a node have; 0 for a product of two activations."""
    total = 0
    positions = (1, 2) if node.op_type in RECURRENT else (0, 1)
    for position in positions:
        name = node.input[position] if len(node.input) > position else ""
        if name in unpacked:
            name = unpacked[name].input[0]
        if name in constants:
            count = 1
            for size in constants[name].dims:
                count *= int(size)
            total += count
    return total


def _why(node: Any, count: int, scheme: str, in_body: bool) -> str:
    if in_body:
        return f"it is in the body of an If, Loop or Scan, which {scheme} does not reach"
    if node.op_type in RECURRENT:
        return f"{scheme} does not quantize recurrent layers (weight-int8 does)"
    if node.op_type.startswith("Conv") and scheme in ("dynamic-int8", "weight-int4"):
        return f"{scheme} does not quantize convolutions"
    if scheme == "weight-int8" and count < 512:
        return f"it has {count} weights, and fewer than 512 aren't worth unpacking"
    return "the tool left it as it was"


def tell(result: Result, coverage: Coverage, what: str, where: str) -> None:
    """Put a pass's coverage into its result: metrics, parameters and notes.

    Args:
        result: Of the step; changed.
        coverage: What the pass did.
        what: What it does to a layer (`quantized`).
        where: The field of the recipe, for the error.

    Raises:
        NothingChanged: No layer was changed.
    """
    if not coverage.done:
        raise NothingChanged(
            f"nothing was {what}: {_reasons(coverage.left)}"
            if coverage.layers
            else f"nothing was {what}: the model has no layer that could be",
            where=where,
            do="change the pass's fields, or remove the pass",
        )
    result.metrics[f"{where}/coverage"] = coverage.fraction
    result.params[f"{where}/layers_eligible"] = len(coverage.layers)
    result.params[f"{where}/layers_changed"] = len(coverage.done)
    if coverage.bytes:
        result.metrics[f"{where}/bytes"] = float(coverage.bytes)
        result.metrics[f"{where}/expected_bytes"] = float(coverage.expected_bytes)
    left = [layer for layer in coverage.left if layer.left_because not in _WANTED]
    if left:
        result.notes.append(
            f"{len(left)} of {len(coverage.layers)} layers were not {what}: {_reasons(left)}"
        )
    if coverage.expected_bytes and coverage.bytes > _LARGER * coverage.expected_bytes:
        has, less = bytes_in_words(coverage.bytes), bytes_in_words(coverage.expected_bytes)
        if coverage.left:
            result.notes.append(
                f"the result has {has}, where {less} would be with every layer {what}"
            )
        elif coverage.bytes - coverage.expected_bytes > _NOTEWORTHY:
            result.notes.append(
                f"the result has {has}, where weights alone have {less}: the rest is scales, and "
                "the nodes that round"
            )


def _reasons(left: Iterable[LayerCoverage]) -> str:
    """Layers by their reason; of each reason a few, with how often one is called."""
    by_reason: dict[str, Counter[str]] = {}
    for layer in left:
        by_reason.setdefault(str(layer.left_because), Counter())[layer.layer or layer.operator] += 1
    told: list[str] = []
    for reason, counts in by_reason.items():
        names = [name if n == 1 else f"{name} ({n} times)" for name, n in counts.items()]
        told.append(f"{', '.join(names[:_SHOWN])}{_rest(names)} ({reason})")
    return "; ".join(told)


def _rest(names: list[str]) -> str:
    return f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
