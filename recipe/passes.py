"""Passes: one compression each, as specified in a recipe.

A pass works on the torch module (`module_passes.py`: before the export) or on the exported graph
(`graph_passes.py`: after it). `works_on` says which; a chain in the wrong order is refused here.
The work itself is in `tasks/compress/KIND.py`, or in a function of the user.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from .graph_passes import (
    AccuracyControl,
    DynamicInt8,
    Fold,
    Fp8,
    HalfFloat,
    StaticInt8,
    WeightOnly,
)
from .module_passes import (
    DistillPass,
    FeaturePair,
    LowRank,
    PruneChannels,
    PruneMagnitude,
    PruneTwoFour,
    PruneWidths,
    QuantizationAware,
)
from .pass_spec import WorksOn
from .strict import ImportPath, Strict, mistake, short_name

__all__ = [
    "AccuracyControl",
    "DistillPass",
    "DynamicInt8",
    "FeaturePair",
    "Fold",
    "Fp8",
    "HalfFloat",
    "ImportedPass",
    "LowRank",
    "Pass",
    "Prune",
    "PruneChannels",
    "PruneMagnitude",
    "PruneTwoFour",
    "PruneWidths",
    "QuantizationAware",
    "Quantize",
    "StaticInt8",
    "WeightOnly",
    "for_processor",
]


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
