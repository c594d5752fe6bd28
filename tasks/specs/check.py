"""Check: what it checks, and what it finds out about model and data."""

from __future__ import annotations

from ...recipe.strict import Strict
from ...recipe.training import Train
from .base import Facts, Judged

#: Fields of the training that the check uses; the others may change without another check.
_LOOKED_AT = frozenset(
    {
        "mesh", "parallel", "resources", "compile", "recompute",  # where it is placed
        "batch_size", "accumulate", "optimizer", "ema",  # what it holds in memory
        "class_weights",
    }
)  # fmt: skip


class CheckSpec(Judged):
    """Attributes:
    loss: Of the training.
    train: The training; all fields that the check does not use have their defaults.
    trains: Whether anything will be trained.
    """

    loss: str
    train: Train
    trains: bool = True


def looked_at(train: Train) -> Train:
    """A training with only the fields that the check uses; the others have their defaults."""
    return Train.model_validate(
        {"epochs": 1, **train.model_dump(mode="json", include=set(_LOOKED_AT))}
    )


class TensorFact(Strict):
    """A tensor without its batch axis.

    Attributes:
        shape: Sizes of the other axes.
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
    """

    data: DataFact
    parameters: int
    memory: MemoryFact
    inputs: dict[str, TensorFact]
    output: TensorFact
