"""Train: what is trained, and how it ended."""

from __future__ import annotations

from typing import ClassVar

from ...recipe.model import DataFactory, ModelFactory
from ...recipe.training import Train
from .base import Facts, Fields, Spec

#: Where and in which parts training is computed: other ones go on from the same checkpoints.
PLACEMENT: Fields = {"train": {"mesh", "parallel", "resources", "checkpoint", "accumulate"}}
#: How patient it is, and who starts the workers: the same is computed.
PATIENCE: Fields = {"train": {"max_failures", "wait_for_workers", "launcher"}}


class TrainSpec(Spec):
    """Attributes:
    model: What is trained.
    data: On what.
    train: How.
    metric: Name of the quality metric on the validation split.
    higher_is_better: Which way it is good.
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
    best_epoch: The epoch whose weights are kept.
    validation: Their quality.
    """

    best_epoch: int
    validation: float
