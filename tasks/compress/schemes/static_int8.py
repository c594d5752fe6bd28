"""static-int8: weights and activations in int8, ranges fixed beforehand.

By ONNX Runtime
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html) or by NNCF
(`by_nncf.py`).
"""

from __future__ import annotations

from typing import Any

from ....recipe.passes import StaticInt8
from .by_nncf import by_nncf
from .job import QuantizeJob, masking_nodes, separate_means
from .last_layers import keep_outputs
from .ranges import reader, save_ranges


def static_int8(job: QuantizeJob, spec: StaticInt8) -> Any:
    """The graph with QuantizeLinear and DequantizeLinear around what is quantized.

    Raises:
        InputError: The engine is not installed.
    """
    graph = by_nncf(job, spec) if spec.engine == "nncf" else _by_onnxruntime(job, spec)
    separate_means(graph)
    return graph


def _by_onnxruntime(job: QuantizeJob, spec: StaticInt8) -> Any:
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    prepared, target = job.prepared(), job.scratch / "quantized.onnx"
    method = CalibrationMethod.MinMax
    options: dict[str, Any] = {"ActivationSymmetric": spec.symmetric}
    if spec.accuracy_control is not None:
        options["QDQKeepRemovableActivations"] = True  # or a layer put back would lose its ReLU
    cache = None
    if spec.calibration == "percentile":
        method = CalibrationMethod.Percentile
        options["CalibPercentile"] = spec.percentile
    elif spec.calibration in ("entropy", "mse"):
        cache = job.scratch / "ranges.json"
        save_ranges(prepared, job.inputs, spec, cache)
    quantize_static(
        str(prepared),
        str(target),
        reader(job.inputs),
        quant_format=QuantFormat.QDQ,
        per_channel=spec.per_channel,
        reduce_range=bool(spec.reduce_range),
        activation_type=QuantType.QUInt8 if spec.activations == "u8" else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        nodes_to_exclude=[*job.skipped, *masking_nodes(onnx.load(str(prepared)))],
        calibration_cache_path=cache,
        use_external_data_format=job.large,
        extra_options=options,
    )
    graph = onnx.load(str(target))
    keep_outputs(graph)
    return graph
