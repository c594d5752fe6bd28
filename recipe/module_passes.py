"""Passes on the torch module, before the export: pruning, low rank, distillation, QAT."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from .objectives import SoftTargets
from .pass_spec import ModulePass, RecoveredPass
from .strict import ImportPath, Strict, mistake


class PruneChannels(RecoveredPass):
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


class PruneMagnitude(RecoveredPass):
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


class PruneTwoFour(RecoveredPass):
    """Two of every four weights along the input become zero, as sparse tensor cores require."""

    kind: Literal["prune"] = Field(description="This pass removes weights.")
    method: Literal["2:4"] = Field(description="Zeroes two of every four adjacent weights.")
    skip_layers: tuple[str, ...] = Field((), description="Layers to leave unchanged.")


class PruneWidths(RecoveredPass):
    """Attention heads and the hidden units of MLPs of a transformer are removed."""

    kind: Literal["prune"] = Field(description="This pass removes weights.")
    method: Literal["transformer"] = Field(description="Removes heads and MLP units.")
    heads: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of each layer's heads to remove. With grouped queries: of its keys, "
        "each with all of its queries.",
    )
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


class DistillPass(ModulePass, SoftTargets):
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


class LowRank(RecoveredPass):
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


class QuantizationAware(ModulePass):
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
