"""Passes: one compression each, as specified in a recipe.

A pass works either on the torch module (prune, distill, low-rank, quantization-aware training:
before the export) or on the exported graph (after it). `works_on` says which, and a chain in the
wrong order is refused here. The work itself is in `tasks/compress/KIND.py`, or in a function of
the user.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from .objectives import SoftTargets
from .strict import ImportPath, Strict, mistake, short_name

WorksOn = Literal["module", "graph"]


class _Pass(Strict):
    """What the layout of a run needs to know of every pass.

    Attributes:
        works_on: Whether it changes the torch module or the exported graph.
        repeatable: Whether a chain may contain it twice.
        calls_user_code: Whether it calls the recipe's factories of model or data.
        depends_on_processor: Whether its result depends on the kind of processor.
    """

    works_on: ClassVar[WorksOn]
    repeatable: ClassVar[bool]
    calls_user_code: ClassVar[bool]
    depends_on_processor: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.kind)  # type: ignore[attr-defined]  # each member has its own

    @property
    def wish(self) -> str:
        """What a target that can't do it says that it can't."""
        return self.name

    @property
    def trains(self) -> bool:
        """Whether it trains, on its own workers."""
        return False

    @property
    def looks_at_validation(self) -> bool:
        """Whether it measures quality on the validation split."""
        return False


class _ModulePass(_Pass):
    works_on: ClassVar[WorksOn] = "module"
    repeatable: ClassVar[bool] = True
    calls_user_code: ClassVar[bool] = True


class _Recovered(_ModulePass):
    """A pass that may be followed by recovery training."""

    recover_epochs: int = Field(
        0, ge=0, description="Epochs of recovery training after the pass (a count)."
    )
    recover_lr_scale: float = Field(
        0.3, gt=0, le=10, description="Learning rate of the recovery, relative to the recipe's."
    )
    recover_teacher: bool = Field(
        False, description="Use the model before this pass as teacher in the recovery."
    )

    @property
    def trains(self) -> bool:
        return self.recover_epochs > 0


class PruneChannels(_Recovered):
    """Whole channels are removed, so that every runtime gets a smaller model (torch-pruning)."""

    kind: Literal["prune"] = Field(description="This pass removes weights.")
    method: Literal["channel"] = Field(description="Removes output channels of layers.")
    ratio: float | None = Field(None, gt=0, lt=1, description="Share of the channels to remove.")
    reach: Literal["flops", "parameters", "latency"] | None = Field(
        None, description="Instead of a ratio: prune until this measure is at `at_most`."
    )
    at_most: float | None = Field(None, gt=0, lt=1, description="Share of `reach` that may remain.")
    importance: Literal["magnitude", "taylor", "bn-scale"] = Field(
        "magnitude", description="Importance of a channel; taylor uses gradients."
    )
    scope: Literal["layer", "global"] = Field(
        "layer", description="layer: the same share of each layer; global: the least important."
    )
    round_to: int = Field(
        8, ge=1, description="Round remaining channels to a multiple of this (a count)."
    )
    skip_layers: tuple[str, ...] = Field((), description="Layers to leave unchanged.")

    @model_validator(mode="after")
    def _one_aim(self) -> PruneChannels:
        if (self.ratio is None) == (self.reach is None):
            raise mistake("aim", "give either ratio, or reach and at_most")
        if (self.reach is None) != (self.at_most is None):
            raise mistake("aim", "reach and at_most must be given together")
        return self


class PruneMagnitude(_Recovered):
    """Single weights become zero (Han et al., https://arxiv.org/abs/1506.02626)."""

    kind: Literal["prune"] = Field(description="This pass removes weights.")
    method: Literal["magnitude"] = Field(description="Zeroes the smallest weights.")
    ratio: float = Field(gt=0, lt=1, description="Share of the weights to zero.")
    scope: Literal["layer", "global"] = Field(
        "global", description="layer: the same share of each layer; global: the smallest of all."
    )
    rounds: int = Field(
        1,
        ge=1,
        description="Steps of gradual pruning with recovery between them, the share growing by "
        "a cubic schedule (Zhu and Gupta, https://arxiv.org/abs/1710.01878).",
    )
    skip_layers: tuple[str, ...] = Field((), description="Layers to leave unchanged.")

    @model_validator(mode="after")
    def _rounds_recover(self) -> PruneMagnitude:
        if self.rounds > 1 and self.recover_epochs < self.rounds:
            raise mistake("aim", "gradual pruning needs at least one recovery epoch per round")
        return self


class PruneTwoFour(_Recovered):
    """Two of every four weights along the input become zero, as sparse tensor cores require."""

    kind: Literal["prune"] = Field(description="This pass removes weights.")
    method: Literal["2:4"] = Field(description="Zeroes two of every four adjacent weights.")
    skip_layers: tuple[str, ...] = Field((), description="Layers to leave unchanged.")


class PruneWidths(_Recovered):
    """Attention heads and the hidden units of MLPs of a transformer are removed."""

    kind: Literal["prune"] = Field(description="This pass removes weights.")
    method: Literal["transformer"] = Field(description="Removes heads and MLP units.")
    heads: float = Field(0.0, ge=0, lt=1, description="Share of each layer's heads to remove.")
    mlp: float = Field(0.0, ge=0, lt=1, description="Share of each MLP's hidden units to remove.")
    round_to: int = Field(
        8, ge=1, description="Round remaining units to a multiple of this (a count)."
    )

    @model_validator(mode="after")
    def _something(self) -> PruneWidths:
        if not self.heads and not self.mlp:
            raise mistake("aim", "give heads or mlp, or both")
        return self


class FeaturePair(Strict):
    """A layer of the teacher and one of the student whose outputs should be alike."""

    teacher: str = Field(description="Layer of the teacher, by its name in the module.")
    student: str = Field(description="Layer of the student.")
    weight: float = Field(1.0, gt=0, description="Weight of this term in the loss.")


class DistillPass(_ModulePass, SoftTargets):
    """A large teacher teaches a small student (Hinton et al., https://arxiv.org/abs/1503.02531)."""

    repeatable: ClassVar[bool] = False

    kind: Literal["distill"] = Field(description="This pass trains a student.")
    factory: ImportPath = Field(
        description="Import path 'module:function' of the student's factory."
    )
    args: dict[str, Any] = Field({}, description="Keyword arguments of the factory.")
    epochs: int = Field(ge=1, description="Epochs of training (a count).")
    lr_scale: float = Field(
        1.0, gt=0, le=10, description="Learning rate, relative to the recipe's."
    )
    hidden: tuple[FeaturePair, ...] = Field(
        (),
        description="Hidden states to match by squared error, through a trained projection where "
        "the widths differ (FitNets, https://arxiv.org/abs/1412.6550).",
    )
    attention: tuple[FeaturePair, ...] = Field(
        (),
        description="Attention modules whose maps (the last output) should be alike, averaged "
        "over heads where their numbers differ (TinyBERT, https://arxiv.org/abs/1909.10351).",
    )

    @property
    def trains(self) -> bool:
        return True


class LowRank(_Recovered):
    """Layers become two of a lower rank, by truncated singular value decomposition."""

    kind: Literal["low-rank"] = Field(description="This pass factorizes layers.")
    energy: float | None = Field(
        None, gt=0, lt=1, description="Share of each layer's squared singular values to keep."
    )
    budget: float | None = Field(
        None, gt=0, lt=1, description="Share of each factorized layer's weights to keep."
    )
    skip_layers: tuple[str, ...] = Field((), description="Layers to leave unchanged.")

    @model_validator(mode="after")
    def _one_aim(self) -> LowRank:
        if (self.energy is None) == (self.budget is None):
            raise mistake("aim", "give either energy or budget")
        return self


class QuantizationAware(_ModulePass):
    """Training with the rounding of int8 in the forward pass (torchao), so that a static-int8
    quantization after it loses less (Jacob et al., https://arxiv.org/abs/1712.05877).
    """

    repeatable: ClassVar[bool] = False

    kind: Literal["qat"] = Field(description="This pass trains with fake quantization.")
    epochs: int = Field(ge=1, description="Epochs of training (a count).")
    lr_scale: float = Field(
        0.1, gt=0, le=10, description="Learning rate, relative to the recipe's."
    )
    teacher: bool = Field(False, description="Use the model before this pass as teacher.")

    @property
    def trains(self) -> bool:
        return True


class AccuracyControl(Strict):
    """Layers go back to floating point, the most sensitive first, until quality holds."""

    at_most: float = Field(
        ge=0, description="Largest allowed drop of the quality metric on validation."
    )
    most_layers: int | None = Field(
        None, ge=1, description="Most layers to put back (a count); none: all but one."
    )


class _GraphPass(_Pass):
    works_on: ClassVar[WorksOn] = "graph"
    repeatable: ClassVar[bool] = False
    calls_user_code: ClassVar[bool] = False


class _Quantization(_GraphPass):
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
        description="weight-int8 or weight-int4: activations stay in floating point."
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


class Fold(_GraphPass):
    """Constants, batch norms, common subexpressions and identities are folded on the graph."""

    kind: Literal["fold"] = Field(description="This pass simplifies the graph.")


class ImportedPass(Strict):
    """Your own pass, by its import path: a function of `(work, **args) -> Result`.

    What other passes define in their class are fields here.
    """

    repeatable: ClassVar[bool] = True
    calls_user_code: ClassVar[bool] = True

    kind: Literal["import"] = Field(description="This pass is your own.")
    factory: ImportPath = Field(
        description="Import path 'module:function' of (work, **args) -> Result."
    )
    works_on: WorksOn = Field(
        description="module: it changes the torch module, before the export; graph: the exported "
        "ONNX graph."
    )
    args: dict[str, Any] = Field({}, description="Keyword arguments of the function.")
    trains: bool = Field(
        False, description="It trains on workers of its own (train_on), so none is kept for it."
    )
    looks_at_validation: bool = Field(
        False, description="It judges by the validation split, so it is told data and metric."
    )
    depends_on_processor: bool = Field(
        False, description="It gives another result on another kind of processor."
    )

    @model_validator(mode="after")
    def _trains_a_module(self) -> ImportedPass:
        if self.trains and self.works_on == "graph":
            raise mistake("trains", "only a pass that works on the module can train")
        return self

    @property
    def name(self) -> str:
        """What people call it."""
        return short_name(self.factory)

    @property
    def wish(self) -> str:
        """What a target that can't do it says that it can't."""
        return self.name


Quantize = Annotated[
    StaticInt8 | DynamicInt8 | WeightOnly | HalfFloat | Fp8, Field(discriminator="scheme")
]
Prune = Annotated[
    PruneChannels | PruneMagnitude | PruneTwoFour | PruneWidths, Field(discriminator="method")
]
Pass = Annotated[
    Prune | DistillPass | LowRank | QuantizationAware | Quantize | Fold | ImportedPass,
    Field(discriminator="kind"),
]


def for_processor(asked: Any, saturates_int8: bool) -> Any:
    """A pass with its processor-dependent options filled in.

    Args:
        asked: Any pass, as in the recipe.
        saturates_int8: Whether sums of 8-bit products overflow on the processor.
    """
    if isinstance(asked, StaticInt8 | DynamicInt8) and asked.reduce_range is None:
        return asked.model_copy(update={"reduce_range": saturates_int8})
    return asked
