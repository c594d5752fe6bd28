"""static-int8: weights and activations in int8, ranges fixed beforehand.

By ONNX Runtime
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html) or by NNCF
(https://github.com/openvinotoolkit/nncf), which corrects biases and smooths transformers.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from ....recipe.errors import InputError
from ....recipe.passes import StaticInt8
from .job import QuantizeJob, masking_nodes
from .ranges import reader, save_ranges


def static_int8(job: QuantizeJob, spec: StaticInt8) -> Any:
    """The graph with QuantizeLinear and DequantizeLinear around what is quantized.

    Raises:
        InputError: The engine is not installed.
    """
    return _by_nncf(job, spec) if spec.engine == "nncf" else _by_onnxruntime(job, spec)


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
    return onnx.load(str(target))


def require_nncf() -> Any:
    """NNCF, quiet.

    Raises:
        InputError: It is not installed.
    """
    try:
        logging.getLogger("nncf").setLevel(logging.ERROR)
        import nncf
    except ModuleNotFoundError:
        raise InputError(
            "this needs the package nncf, which is not installed",
            where="quantize.engine",
            do="pip install 'prefect-hone[nncf]'",
        ) from None
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def dataset(nncf: Any, job: QuantizeJob) -> Any:
    """Calibration samples, one by one, in NNCF's form."""
    count = len(next(iter(job.inputs.values())))
    samples = [{n: np.ascontiguousarray(v[i : i + 1]) for n, v in job.inputs.items()}
               for i in range(count)]  # fmt: skip
    return nncf.Dataset(samples)


def _by_nncf(job: QuantizeJob, spec: StaticInt8) -> Any:
    import onnx

    nncf = require_nncf()
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    graph = onnx.load(str(job.source))
    attention = any(node.op_type in ("Softmax", "Attention") for node in graph.graph.node)
    smooth = spec.smooth_quant is not None or attention
    advanced: dict[str, Any] = {}
    if spec.smooth_quant is not None:
        alphas = nncf.AdvancedSmoothQuantParameters(matmul=spec.smooth_quant)
        advanced["smooth_quant_alphas"] = alphas
    if spec.calibration == "mse":
        advanced["activations_range_estimator_params"] = (
            RangeEstimatorParametersSet.HISTOGRAM  # minimizes the squared rounding error
        )
    if spec.reduce_range:
        advanced["overflow_fix"] = nncf.OverflowFix.ENABLE
    count = len(next(iter(job.inputs.values())))
    return nncf.quantize(
        graph,
        dataset(nncf, job),
        preset=(
            nncf.QuantizationPreset.PERFORMANCE if spec.symmetric else nncf.QuantizationPreset.MIXED
        ),
        subset_size=count,
        fast_bias_correction=True,
        model_type=nncf.ModelType.TRANSFORMER if smooth else None,
        ignored_scope=nncf.IgnoredScope(names=job.skipped) if job.skipped else None,
        advanced_parameters=nncf.AdvancedQuantizationParameters(**advanced) if advanced else None,
    )
