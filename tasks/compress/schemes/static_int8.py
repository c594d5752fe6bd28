"""static-int8: weights and activations in int8, ranges fixed beforehand.

By ONNX Runtime
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html) or by NNCF
(`by_nncf.py`).
"""

from __future__ import annotations

import copy
from typing import Any

from ....ray_workers.model.sqnr import sqnr_db
from ....recipe.passes import StaticInt8
from .by_nncf import by_nncf
from .job import HEAVY, QuantizeJob, exact_nodes, heavy_nodes, masking_nodes
from .last_layers import keep_outputs, round_once
from .ranges import reader, save_ranges
from .runners import outputs_of
from .shared_constants import unshare_biases, unshare_tables

#: Below this (dB), what is between the layers is tried in floating point, and taken if that gives
#: so much more (dB). Above it, the time that it costs is not worth it.
_ENOUGH, _GAIN = 20.0, 3.0
_SAMPLES = 64


def static_int8(job: QuantizeJob, spec: StaticInt8) -> Any:
    """The graph with QuantizeLinear and DequantizeLinear around what is quantized.

    Raises:
        InputError: The engine is not installed.
    """
    return by_nncf(job, spec) if spec.engine == "nncf" else _by_onnxruntime(job, spec)


def _by_onnxruntime(job: QuantizeJob, spec: StaticInt8) -> Any:
    if spec.operators != "auto":
        return _quantized(job, spec, only_layers=spec.operators == "layers")
    graph = _quantized(job, spec, only_layers=False)
    few = {name: value[:_SAMPLES] for name, value in job.inputs.items()}
    expected = outputs_of(job.graph, few)
    reached = sqnr_db(expected, outputs_of(graph, few))
    if reached >= _ENOUGH:
        return graph
    layers = _quantized(job, spec, only_layers=True)
    better = sqnr_db(expected, outputs_of(layers, few))
    if better < reached + _GAIN:
        return graph
    job.notes.append(
        "only convolutions, matrix products and embeddings compute in int8: "
        f"{better:.0f} dB on the calibration data, {reached:.0f} dB with the operators between them"
    )
    return layers


def _quantized(job: QuantizeJob, spec: StaticInt8, only_layers: bool) -> Any:
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    prepared, target = job.prepared(), job.scratch / "quantized.onnx"
    method = CalibrationMethod.MinMax
    # A ReLU that only the rounding behind it stands for would go with the rounding, where a layer
    # is put back, or OpenVINO or the end of the graph does without.
    options: dict[str, Any] = {
        "ActivationSymmetric": spec.symmetric,
        "QDQKeepRemovableActivations": True,
    }
    cache = None
    if spec.calibration == "percentile":
        method = CalibrationMethod.Percentile
        options["CalibPercentile"] = spec.percentile
    elif spec.calibration in ("entropy", "mse"):
        cache = job.scratch / "ranges.json"
        save_ranges(prepared, job.inputs, spec, cache)
    source = onnx.load(str(prepared))
    apart = unshare_biases(source), unshare_tables(source, heavy_nodes(source))
    if any(apart):
        prepared = job.scratch / "unshared" / "prepared.onnx"
        prepared.parent.mkdir(exist_ok=True)
        onnx.save(copy.deepcopy(source), str(prepared), save_as_external_data=job.large)
    skipped = [*job.skipped, *masking_nodes(source), *exact_nodes(source)]
    quantize_static(
        str(prepared),
        str(target),
        reader(job.inputs),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*HEAVY, "Gather"] if only_layers else None,
        per_channel=spec.per_channel,
        reduce_range=bool(spec.reduce_range),
        activation_type=QuantType.QUInt8 if spec.activations == "u8" else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        nodes_to_exclude=[*skipped, *_other_gathers(source)] if only_layers else skipped,
        calibration_cache_path=cache,
        use_external_data_format=job.large,
        extra_options=options,
    )
    graph = onnx.load(str(target))
    keep_outputs(graph)
    round_once(graph)
    return graph


def _other_gathers(graph: Any) -> list[str]:
    """Names of the Gathers that are no look-ups in a table of weights."""
    weights = {item.name for item in graph.graph.initializer}
    return [
        str(node.name)
        for node in graph.graph.node
        if node.op_type == "Gather" and node.input[0] not in weights
    ]
