"""Passes on the exported graph: quantization in its schemes, and folding."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from .pass_spec import GraphPass
from .strict import Strict, mistake


class AccuracyControl(Strict):
    """Layers go back to floating point, the most sensitive first, until quality holds."""

    at_most: float = Field(
        ge=0, description="Largest allowed drop of the quality metric on validation."
    )
    most_layers: int | None = Field(
        None, ge=1, description="Most layers to put back (a count); none: all but one."
    )


class _Quantization(GraphPass):
    """What quantization measures, and how many bits it takes, depend on the processor."""

    depends_on_processor: ClassVar[bool] = True

    @property
    def wish(self) -> str:
        return str(self.scheme)  # type: ignore[attr-defined]  # each member has its own


_REDUCE_RANGE: Any = Field(
    None,
    description="7-bit weights, which avoid overflow on x86 processors without VNNI or AMX; "
    "none: decided by the processor.",
)


class StaticInt8(_Quantization):
    """Weights and activations in 8-bit integers, with ranges measured on calibration data."""

    kind: Literal["quantize"] = Field(description="This pass quantizes.")
    scheme: Literal["static-int8"] = Field(
        description="static-int8: weights and activations in int8, ranges fixed beforehand.",
    )
    engine: Literal["onnxruntime", "nncf"] = Field(
        "onnxruntime",
        description="Quantization engine: ONNX Runtime, or NNCF (extra: nncf), which corrects "
        "biases and smooths transformers' activations.",
    )
    calibration: Literal["minmax", "entropy", "percentile", "mse"] = Field(
        "minmax", description="How activation ranges are derived from calibration data."
    )
    percentile: float = Field(
        99.99,
        gt=50,
        le=100,
        description="Of calibration 'percentile': share of the values that the range holds (%).",
    )
    samples: int = Field(
        256, ge=1, le=100_000, description="Most calibration samples to use (a count)."
    )
    per_channel: bool = Field(True, description="One scale per output channel of a weight.")
    activations: Literal["u8", "s8"] = Field(
        "u8", description="Type of quantized activations; u8 is faster on most CPUs."
    )
    symmetric: bool = Field(False, description="Make activation ranges symmetric around 0.")
    operators: Literal["auto", "all", "layers"] = Field(
        "auto",
        description="Which operators of the graph compute in 8 bits: 'all' that ONNX Runtime "
        "supports; 'layers': convolutions, matrix products and embeddings only; 'auto': layers if "
        "all lose too much on the calibration data. Engine nncf decides by itself (auto).",
    )
    reduce_range: bool | None = _REDUCE_RANGE
    smooth_quant: float | None = Field(
        None,
        ge=0,
        le=1,
        description="SmoothQuant's alpha (https://arxiv.org/abs/2211.10438): how much of the "
        "activations' range moves into the weights; for transformers, with engine nncf.",
    )
    skip_layers: tuple[str, ...] = Field(
        (), description="Layers to leave in floating point, by their name in the torch module."
    )
    accuracy_control: AccuracyControl | None = Field(
        None, description="Put layers back to floating point until quality holds; none: off."
    )

    @property
    def looks_at_validation(self) -> bool:
        return self.accuracy_control is not None

    @model_validator(mode="after")
    def _engine_can(self) -> StaticInt8:
        if self.engine == "onnxruntime" and self.smooth_quant is not None:
            raise mistake("engine", "smooth_quant needs engine nncf")
        if self.engine == "nncf" and self.operators != "auto":
            raise mistake("engine", "engine nncf supports only operators: auto")
        if self.engine == "nncf" and self.calibration in ("entropy", "percentile"):
            raise mistake("engine", "engine nncf supports only calibration minmax or mse")
        if self.engine == "nncf" and not (self.per_channel and self.activations == "u8"):
            raise mistake(
                "engine", "engine nncf supports only per_channel: true and activations: u8"
            )
        return self


class DynamicInt8(_Quantization):
    """Weights in int8; activations are quantized while running, with ranges of each call."""

    kind: Literal["quantize"] = Field(description="This pass quantizes.")
    scheme: Literal["dynamic-int8"] = Field(
        description="dynamic-int8: activation ranges are computed in each call."
    )
    per_channel: bool = Field(True, description="One scale per output channel of a weight.")
    reduce_range: bool | None = _REDUCE_RANGE
    skip_layers: tuple[str, ...] = Field((), description="Layers to leave in floating point.")


class WeightOnly(_Quantization):
    """Only weights in integers: smaller, and faster where memory bandwidth is the limit."""

    kind: Literal["quantize"] = Field(description="This pass quantizes.")
    scheme: Literal["weight-int8", "weight-int4"] = Field(
        description="weight-int8 or weight-int4: activations stay in floating point, and so do "
        "embeddings; with weight-int4, convolutions, too."
    )
    group_size: int = Field(
        128, ge=16, description="Weights that share a scale, along the input (int4; a count)."
    )
    algorithm: Literal["rtn", "awq"] = Field(
        "rtn",
        description="rtn rounds to nearest; awq scales the channels that matter, by calibration "
        "data (int4, extra: nncf; https://arxiv.org/abs/2306.00978).",
    )
    samples: int = Field(64, ge=1, le=100_000, description="Calibration samples (a count).")
    skip_layers: tuple[str, ...] = Field((), description="Layers to leave in floating point.")

    @model_validator(mode="after")
    def _int4_only(self) -> WeightOnly:
        if self.scheme == "weight-int8" and self.algorithm != "rtn":
            raise mistake("engine", "weight-int8 supports only algorithm rtn")
        return self


class HalfFloat(_Quantization):
    """All numbers in a shorter floating-point format."""

    kind: Literal["quantize"] = Field(description="This pass quantizes.")
    scheme: Literal["fp16", "bf16"] = Field(description="fp16 or bf16.")


class Fp8(_Quantization):
    """Weights and activations of convolutions and matrix products in 8-bit floating point (E4M3,
    https://arxiv.org/abs/2209.05433), with scales from calibration data; for GPU targets.
    """

    kind: Literal["quantize"] = Field(description="This pass quantizes.")
    scheme: Literal["fp8"] = Field(description="fp8: E4M3, for GPUs that compute in it.")
    samples: int = Field(
        64, ge=1, le=100_000, description="Most calibration samples to use (a count)."
    )
    skip_layers: tuple[str, ...] = Field((), description="Layers to leave in floating point.")


class Fold(GraphPass):
    """Constants, batch norms, common subexpressions and identities are folded on the graph."""

    kind: Literal["fold"] = Field(description="This pass simplifies the graph.")
