"""Why the outputs of a compressed candidate are far from the trained model's, and what to do.

Pure: derived from the passes and from what layer parity found.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..recipe.passes import DynamicInt8, Fp8, HalfFloat, StaticInt8, WeightOnly
from .specs.layer_parity import LayerParity, LayerParityFacts

#: Below this (dB) an error of a tenth of the outputs' size, and worth a reason.
FAR = 20.0
#: Two numbers of decibels that are farther apart than this don't have the same cause.
_APART = 6.0


def departure_of(
    sqnr_db: float, passes: Sequence[object], parity: LayerParityFacts | None, runtime: str
) -> str | None:
    """Where a candidate's outputs depart from the trained model's, and what helps; None if near.

    Args:
        sqnr_db: Of its outputs, through its runtime (dB).
        passes: The passes of its variant.
        parity: Its compressed graph, layer by layer in ONNX Runtime; None: there is none.
        runtime: What serves it, for people.
    """
    if sqnr_db >= FAR or not passes:
        return None
    said = f"its outputs have {sqnr_db:.0f} dB SQNR"
    quantization = next((p for p in reversed(passes) if hasattr(p, "scheme")), None)
    on_module = [p for p in passes if getattr(p, "works_on", "") == "module"]
    layers = parity.layers if parity is not None else ()
    if not layers or quantization is None:
        names = " and ".join(dict.fromkeys(str(getattr(p, "kind", "a pass")) for p in passes))
        return f"{said}, after {names}"
    end = layers[-1].sqnr_db
    if end > sqnr_db + _APART and on_module:
        names = " and ".join(dict.fromkeys(str(getattr(p, "kind", "a pass")) for p in on_module))
        return (
            f"{said}, because of {names}: the quantization after it keeps {end:.0f} dB → retrain "
            "longer (recover_epochs), or compress less"
        )
    if end > sqnr_db + _APART:
        return (
            f"{said}, but ONNX Runtime computes the same graph with {end:.0f} dB: {runtime} rounds "
            f"it otherwise → serve it by another target, or try {_other_rounding(quantization)}"
        )
    worst = _worst(layers)
    if parity is not None and parity.departs_at == worst.layer:
        return f"{said}: it departs at {worst} → {_remedy(quantization, worst.layer)}"
    return (
        f"{said}: the noise adds up over {len(layers)} layers, most at {worst} → "
        f"{_remedy(quantization, None)}"
    )


def _worst(layers: Sequence[LayerParity]) -> LayerParity:
    """The layer that loses most."""
    return max(layers, key=lambda one: one.lost_db)


def _other_rounding(quantization: object) -> str:
    tried = []
    if isinstance(quantization, StaticInt8 | DynamicInt8) and not quantization.reduce_range:
        tried.append("reduce_range: true")
    if isinstance(quantization, StaticInt8) and quantization.engine == "onnxruntime":
        tried.append("engine: nncf")
    return ", or ".join(tried) or "scheme: weight-int8"


def _remedy(quantization: object, layer: str | None) -> str:
    """What to change of the quantization: leave one layer out, or quantize all more finely."""
    skip = "" if layer is None else f"skip_layers: ['{layer}'], or "
    match quantization:
        case StaticInt8(engine="onnxruntime", calibration="minmax"):
            layers = "" if quantization.operators == "layers" else "operators: layers, "
            return f"{skip}{layers}calibration: percentile, or engine: nncf"
        case StaticInt8(accuracy_control=None):
            return f"{skip}accuracy_control, or scheme: weight-int8"
        case WeightOnly(scheme="weight-int4"):
            awq = "algorithm: awq, " if quantization.algorithm == "rtn" else ""
            return f"{skip}{awq}a smaller group_size, or scheme: weight-int8"
        case WeightOnly():
            return f"{skip}scheme: fp16"
        case HalfFloat(scheme="fp16"):
            return "scheme: bf16, which has the range of fp32"
        case HalfFloat():
            return "scheme: fp16, which rounds less"
        case StaticInt8() | DynamicInt8() | Fp8():
            return f"{skip}scheme: weight-int8"
    return f"{skip}another scheme"
