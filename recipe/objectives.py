"""What training minimizes: the `objective` of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .strict import ImportPath, Strict


class Supervised(Strict):
    """The loss against the targets."""

    kind: Literal["supervised"] = Field(description="The recipe's loss only.")


class SoftTargets(Strict):
    """How a teacher's outputs enter the loss."""

    temperature: float = Field(
        2.0, gt=0, description="Softmax temperature of teacher and student; 1: unchanged."
    )
    weight: float = Field(
        0.5, ge=0, le=1, description="Weight of the teacher's outputs; the rest is the loss."
    )
    cache_mb: int = Field(
        1024,
        ge=0,
        description="Memory of each worker without a GPU for the teacher's outputs, so that a "
        "repeated sample does not run the teacher again (MB); 0: no cache.",
    )


class DistillObjective(SoftTargets):
    """The loss against the targets, and the distance from a teacher's outputs.

    Hinton et al., https://arxiv.org/abs/1503.02531: both softened by a temperature, compared by the
    Kullback-Leibler divergence, scaled by the temperature's square. Where outputs are no logits
    (losses other than cross entropy), the distance is the mean squared error.
    """

    kind: Literal["distill"] = Field(description="The loss, and a frozen teacher's outputs.")
    factory: ImportPath = Field(
        description="Import path 'module:function' of the teacher's factory."
    )
    args: dict[str, Any] = Field({}, description="Keyword arguments of the factory.")
    weights: str | None = Field(
        None,
        description="Path or fsspec URL of the teacher's weights (safetensors); none: the factory "
        "gives a trained teacher.",
    )


Objective = Annotated[Supervised | DistillObjective, Field(discriminator="kind")]
