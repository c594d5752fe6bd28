"""static-int8 and weight-int4 by NNCF (https://github.com/openvinotoolkit/nncf).

NNCF corrects biases and smooths transformers' activations.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from ....ray_workers.model.sqnr import sqnr_db
from ....recipe.errors import InputError
from ....recipe.passes import StaticInt8
from .job import QuantizeJob, exact_nodes
from .runners import outputs_of
from .shared_constants import merge_equal, unshare

#: Below this (dB) it is tried without the correction of biases, too.
_GOOD = 40.0
_SAMPLES = 64


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


def by_nncf(job: QuantizeJob, spec: StaticInt8) -> Any:
    """The graph with QuantizeLinear and DequantizeLinear around what is quantized.

    NNCF's correction of biases helps some models by 7 dB and costs others 18, so where the result
    isn't good the better of both is taken.

    Raises:
        InputError: NNCF is not installed.
    """
    import onnx

    source = onnx.load(str(job.source))
    unshare(source)
    try:
        corrected = _quantized(job, spec, source, {})
    except Exception:  # it expects the weight of a product in second place
        job.notes.append("NNCF's correction of biases failed, and was left out")
        plain = _quantized(job, spec, source, {"disable_bias_correction": True})
        merge_equal(plain)
        return plain
    few = {name: value[:_SAMPLES] for name, value in job.inputs.items()}
    expected = outputs_of(job.graph, few)
    reached = sqnr_db(expected, outputs_of(corrected, few))
    if reached < _GOOD:
        plain = _quantized(job, spec, source, {"disable_bias_correction": True})
        without = sqnr_db(expected, outputs_of(plain, few))
        if without > reached:
            job.notes.append(
                f"NNCF's correction of biases was left out: {without:.0f} dB without it, "
                f"{reached:.0f} dB with it"
            )
            corrected = plain
    merge_equal(corrected)
    return corrected


def _quantized(job: QuantizeJob, spec: StaticInt8, source: Any, advanced: dict[str, Any]) -> Any:
    nncf = require_nncf()
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    skipped = [*job.skipped, *exact_nodes(source)]
    attention = any(node.op_type in ("Softmax", "Attention") for node in source.graph.node)
    smooth = spec.smooth_quant is not None or attention
    # NNCF's default is the mean of the samples' extremes, which cuts half of all other samples'.
    ranges = {"minmax": "MINMAX", "mse": "HISTOGRAM"}[spec.calibration]
    advanced = {
        **advanced,
        "activations_range_estimator_params": getattr(RangeEstimatorParametersSet, ranges),
    }
    if spec.smooth_quant is not None:
        alphas = nncf.AdvancedSmoothQuantParameters(matmul=spec.smooth_quant)
        advanced["smooth_quant_alphas"] = alphas
    if spec.reduce_range:
        advanced["overflow_fix"] = nncf.OverflowFix.ENABLE
    return nncf.quantize(
        source,
        dataset(nncf, job),
        preset=(
            nncf.QuantizationPreset.PERFORMANCE if spec.symmetric else nncf.QuantizationPreset.MIXED
        ),
        subset_size=len(next(iter(job.inputs.values()))),
        fast_bias_correction=True,
        model_type=nncf.ModelType.TRANSFORMER if smooth else None,
        ignored_scope=nncf.IgnoredScope(names=skipped) if skipped else None,
        advanced_parameters=nncf.AdvancedQuantizationParameters(**advanced),
    )
