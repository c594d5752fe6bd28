"""Quantize: weights and activations of the graph in int8, in the QDQ form every runtime reads.

Uses ONNX Runtime's static quantization
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed, did_you_mean
from ...recipe.passes import Quantize
from ..graph import GRAPH, Arrays, in_batches, layer_of, load_inputs, read_graph, write_graph

#: Operators whose cost is in their weights: they are what quantization is for.
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_CALIBRATION_BATCH = 32


def apply(work: Workspace) -> Result:
    """Spec: a Quantize. Inputs: `graph`, `calibration`. Output: `graph`, quantized.

    Raises:
        StepFailed: Naming the layers that can't be quantized, if none can; a layer to skip that
            does not exist; or calibration inputs that the graph can't take.
    """
    spec = Quantize.model_validate(work.spec["pass"])
    source = read_graph(work.inputs["graph"])
    heavy = [node for node in source.graph.node if node.op_type in _HEAVY]
    if not heavy:
        found = ", ".join(sorted({node.op_type for node in source.graph.node}))
        raise StepFailed(
            f"there is nothing to quantize: no convolution or matrix product among {found}",
            where="quantize",
        )
    skipped = _nodes_to_skip(source, spec.skip_layers)
    inputs = load_inputs(work.inputs["calibration"], spec.samples)
    prepared = work.scratch / "prepared.onnx"
    raw = work.scratch / "quantized.onnx"
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            _prepare(work.inputs["graph"] / GRAPH, prepared)
            _quantize(prepared, raw, spec, inputs, skipped)
    except Exception as error:
        raise StepFailed(
            f"the graph can't be quantized: {type(error).__name__}: {_first_line(error)}"
            f"{_culprit(str(error), source)}",
            where="quantize",
        ) from error
    finally:
        log.setLevel(level)
    import onnx

    graph = onnx.load(str(raw))
    left = _left_in_float(graph)
    quantized = [node for node in graph.graph.node if node.op_type in _HEAVY]
    if len(left) == len(quantized):
        named = ", ".join(f"{layer} ({op})" for layer, op in left[:5])
        raise StepFailed(f"no layer could be quantized: {named}", where="quantize")
    write_graph(graph, work.output("graph", "onnx"))
    notes = []
    unwanted = [entry for entry in left if entry[0] not in spec.skip_layers]
    if unwanted:
        named = ", ".join(f"{layer} ({op})" for layer, op in unwanted[:5])
        notes.append(f"{len(unwanted)} layers stay in floating point: {named}")
    count = len(next(iter(inputs.values())))
    return Result(
        params={
            "quantize/layers": len(quantized) - len(left),
            "quantize/layers_left_in_float": len(left),
            "quantize/calibration_samples": count,
        },
        facts={"quantized": True, "left_in_float": [list(entry) for entry in left]},
        notes=notes,
    )


def _prepare(source: Path, target: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(target))


def _quantize(
    source: Path, target: Path, spec: Quantize, inputs: Arrays, skipped: list[str]
) -> None:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(in_batches(inputs, _CALIBRATION_BATCH))

        def get_next(self) -> Any:
            return next(self._batches, None)

    # ONNX Runtime's third method, entropy, gives the same ranges as minmax here: it has 128 bins
    # for 128 levels, and no setting for that.
    methods = {"minmax": "MinMax", "percentile": "Percentile"}
    quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=spec.per_channel,
        activation_type=QuantType.QUInt8 if spec.activations == "u8" else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=getattr(CalibrationMethod, methods[spec.calibration]),
        nodes_to_exclude=skipped,
        extra_options={"CalibPercentile": spec.percentile},
    )


def _nodes_to_skip(model: Any, layers: tuple[str, ...]) -> list[str]:
    by_layer: dict[str, list[str]] = {}
    for node in model.graph.node:
        by_layer.setdefault(layer_of(node), []).append(str(node.name))
    for layer in layers:
        if layer not in by_layer:
            raise StepFailed(
                f"there is no layer '{layer}': {did_you_mean(layer, by_layer)}",
                where="quantize.skip_layers",
            )
    return [name for layer in layers for name in by_layer[layer]]


def _left_in_float(model: Any) -> list[tuple[str, str]]:
    """Layer and operator of each heavy node that has an input or a weight in floating point."""
    produced = {output: node.op_type for node in model.graph.node for output in node.output}
    return [
        (layer_of(node), str(node.op_type))
        for node in model.graph.node
        if node.op_type in _HEAVY
        and any(produced.get(name) != "DequantizeLinear" for name in node.input[:2])
    ]


def _culprit(message: str, model: Any) -> str:
    named = [
        node for node in model.graph.node if node.name and f"{node.name}" in message.split("'")
    ]
    if named:
        return f" (layer {layer_of(named[0])}, operator {named[0].op_type})"
    operators = Counter(str(node.op_type) for node in model.graph.node)
    known = [op for op in operators if f" {op} " in f" {message} " or f"({op})" in message]
    return f" (operator {known[0]})" if known else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
