"""Train: what is trained, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from ...recipe.model import DataFactory, ModelFactory
from ...recipe.strict import Strict
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
    metric_outputs: What a metric of the user's own gets: the main output, or all of them.
    higher_is_better: Its direction.
    """

    unkeyed: ClassVar[Fields] = PATIENCE
    placement: ClassVar[Fields] = PLACEMENT

    model: ModelFactory
    data: DataFactory
    train: Train
    metric: str
    metric_outputs: Literal["main", "all"] = "main"
    higher_is_better: bool


class Curve(Strict):
    """A metric over the steps of a training.

    Attributes:
        steps: Optimizer steps.
        values: The metric at each of them.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]

    @staticmethod
    def thinned(points: Sequence[tuple[int, float]], most: int = 240) -> Curve:
        """Of at most so many points, evenly chosen; the first and the last are kept."""
        count = min(most, len(points))
        chosen = [round(i * (len(points) - 1) / max(1, count - 1)) for i in range(count)]
        return Curve(
            steps=tuple(points[i][0] for i in chosen), values=tuple(points[i][1] for i in chosen)
        )


class TrainFacts(Facts):
    """Attributes:
    best_epoch: The epoch with the best weights, which are the output.
    validation: Their quality on the validation split.
    curves: Losses, learning rate and quality by step, thinned for a picture.
    """

    best_epoch: int
    validation: float
    curves: dict[str, Curve] = Field(default_factory=dict)
