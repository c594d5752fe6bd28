"""Check: what it checks, and what it finds out about model and data."""

from __future__ import annotations

import math

from pydantic import Field

from ...recipe.proofs import Proofs
from ...recipe.strict import Strict
from ...recipe.training import Train
from .base import Facts, Judged

#: Fields of the training that the check uses; the others may change without another check.
LOOKED_AT = frozenset(
    {
        "mesh", "parallel", "resources", "compile", "recompute",  # where it is placed
        "batch_size", "accumulate", "optimizer", "ema",  # what it holds in memory
        "loss", "loss_outputs", "class_weights",
        "epochs",  # about how long it takes
    }
)  # fmt: skip


class CheckSpec(Judged):
    """Attributes:
    train: The training; all fields that the check does not use have their defaults.
    batch_sizes: Of the benchmark, which gets batches at their own sizes.
    proofs: Which input must be fit to be corrupted and occluded; None: none has to be.
    groups: By what the samples will be grouped.
    """

    train: Train
    batch_sizes: tuple[int, ...] = (1,)
    proofs: Proofs | None = None
    groups: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether anything will be trained."""
        return self.train.epochs > 0


def looked_at(train: Train) -> Train:
    """A training with only the fields that the check uses; the others have their defaults.

    Epochs are rounded up to a power of ten: the check only asks whether it will take long, and a
    few more need no other check.
    """
    about = 10 ** math.ceil(math.log10(train.epochs)) if train.epochs else 0
    return Train.model_validate(
        {**train.model_dump(mode="json", include=set(LOOKED_AT)), "epochs": about}
    )


class TensorFact(Strict):
    """A tensor without its batch axis.

    Attributes:
        shape: Sizes of the other axes; -1: any.
        dtype: As numpy names it.
    """

    shape: tuple[int, ...]
    dtype: str


class DataFact(Strict):
    """The data set.

    Attributes:
        name: As the data factory names it.
        sizes: Samples of each split (counts).
    """

    name: str
    sizes: dict[str, int]


class MemoryFact(Strict):
    """Memory of a training worker (bytes); as `ray_workers.training.estimate.Estimate`."""

    parameters: int
    weights: int
    gradients: int
    optimizer: int
    activations: int | None


class CheckFacts(Facts):
    """Attributes:
    data: The data set.
    parameters: Of the model (a count).
    memory: Memory of a training worker.
    inputs: Of the model, by name.
    output: Its main output.
    outputs: All outputs by the model's own names, the main one first.
    varying: Axes of inputs besides the batch that differ between samples, in words.
    """

    data: DataFact
    parameters: int
    memory: MemoryFact
    inputs: dict[str, TensorFact]
    output: TensorFact
    outputs: dict[str, TensorFact] = Field(default_factory=dict)
    varying: tuple[str, ...] = ()
