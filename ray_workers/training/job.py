"""What a training run needs, in plain data that travels to every worker."""

from __future__ import annotations

from ...recipe.factories import Allowed
from ...recipe.schema import DataFactory, Factory
from ...recipe.strict import Strict
from ...recipe.training import Train


class TrainJob(Strict):
    """A training run.

    Attributes:
        model: Factory of the model.
        data: Factory of the data.
        train: The recipe's `train`.
        metric: Name of the quality metric.
        higher_is_better: Which way it is good.
        allowed: Factories that may be called.
        checkpoints: fsspec URL of the run's checkpoints.
    """

    model: Factory
    data: DataFactory
    train: Train
    metric: str
    higher_is_better: bool
    allowed: Allowed
    checkpoints: str
