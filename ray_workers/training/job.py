"""Specification of a training run, as plain data that is sent to every worker."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ...recipe.factories import Allowed
from ...recipe.model import DataFactory, ModelFactory
from ...recipe.passes import FeaturePair
from ...recipe.strict import Strict
from ...recipe.training import Train
from ..store.artifacts import Artifact, Store


class Lesson(Strict):
    """How a teacher's outputs enter the loss.

    Attributes:
        temperature: Temperature of both sides' softmax.
        weight: Weight of the teacher's outputs; the rest is the loss.
        hidden: Layers whose outputs should be alike.
        attention: Attention modules whose maps should be alike.
        cache_mb: Memory of each worker for the teacher's outputs (MB).
    """

    temperature: float = 2.0
    weight: float = 0.5
    hidden: tuple[FeaturePair, ...] = ()
    attention: tuple[FeaturePair, ...] = ()
    cache_mb: int = 1024


class TrainJob(Strict):
    """A training run.

    Attributes:
        model: Factory of the model.
        data: Factory of the data.
        train: The recipe's `train`.
        metric: Name of the quality metric.
        metric_outputs: What a metric of the user's own gets: the main output, or all of them.
        higher_is_better: Which way it is good.
        allowed: Factories that may be called.
        checkpoints: fsspec URL of the run's checkpoints.
        start: A module artifact to start from; None: the factory's model.
        teacher: The module artifact of the teacher, or None.
        lesson: How the teacher is used.
        keep_zeros: Weights that are zero at the start stay zero.
        qat: Train with the rounding of int8 in the forward pass.
        store: URL of the store, where there are artifacts to fetch.
        cache: Local folder for artifacts of a remote store.
        checkpoint_key: Signs the records of checkpoints; empty: they are not signed.
    """

    model: ModelFactory
    data: DataFactory
    train: Train
    metric: str
    metric_outputs: Literal["main", "all"] = "main"
    higher_is_better: bool
    allowed: Allowed
    checkpoints: str
    start: Artifact | None = None
    teacher: Artifact | None = None
    lesson: Lesson | None = None
    keep_zeros: bool = False
    qat: bool = False
    store: str = ""
    cache: str = ""
    checkpoint_key: str = Field("", repr=False)

    def fetched(self, artifact: Artifact) -> Path:
        """A local folder with an artifact's files."""
        return Store(self.store, Path(self.cache)).fetch(artifact)
