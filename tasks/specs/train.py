"""Train: what is trained, and how it ended."""

from __future__ import annotations

from typing import ClassVar

from ...recipe.model import DataFactory, ModelFactory
from ...recipe.training import Train
from .base import Facts, Fields, Spec

#: Where and how training is distributed: another placement resumes from the same checkpoints.
PLACEMENT: Fields = {"train": {"mesh", "parallel", "resources", "checkpoint", "accumulate"}}
#: Patience, and the launcher of the workers: they don't influence the result.
PATIENCE: Fields = {"train": {"max_failures", "wait_for_workers", "launcher"}}


class TrainSpec(Spec):
    """Attributes:
    model: What is trained.
    data: On what.
    train: How.
    metric: Name of the quality metric on the validation split.
    higher_is_better: Its direction.
    """

    unkeyed: ClassVar[Fields] = PATIENCE
    placement: ClassVar[Fields] = PLACEMENT

    model: ModelFactory
    data: DataFactory
    train: Train
    metric: str
    higher_is_better: bool


class TrainFacts(Facts):
    """Attributes:
    best_epoch: The epoch with the best weights, which are the output.
    validation: Their quality on the validation split.
    """

    best_epoch: int
    validation: float
