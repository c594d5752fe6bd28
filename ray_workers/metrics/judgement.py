"""A metric over what a model returns for a batch, and over the batch's targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
import torch

from ...recipe.factories import Allowed
from ...recipe.model import DataFactory
from ..data.calling import OUTPUT
from ..data.targets import as_arrays, main_target
from . import Array, metric


class HowJudged(Protocol):
    """A step that judges.

    Attributes:
        metric: Name of the quality metric.
        metric_outputs: What a metric of the user's own gets: the main output, or all of them.
        data: Names the main one of several targets.
    """

    @property
    def metric(self) -> str: ...

    @property
    def metric_outputs(self) -> Literal["main", "all"]: ...

    @property
    def data(self) -> DataFactory: ...


class Judgement:
    """A metric with what it gets of a model's outputs and of the targets.

    Args:
        how: The step's spec.
        allowed: What may be named by import path.
    """

    def __init__(self, how: HowJudged, allowed: Allowed | None = None) -> None:
        self._functions = metric(how.metric, allowed)
        self._own = ":" in how.metric
        self._every = how.metric_outputs == "all"
        self._target = how.data.target

    def per_sample(self, outputs: Any, targets: Any) -> Array:
        """Statistics (N, k).

        Args:
            outputs: All of a model's by name, the main one first, or the main one only: arrays or
                tensors (N, ...).
            targets: As a batch has them.
        """
        found = outputs if isinstance(outputs, Mapping) else {OUTPUT: outputs}
        given: Any
        if self._every:
            given = {name: _array(value) for name, value in found.items()}
        else:
            main = next(iter(found.values()))
            given = _array(main.float() if isinstance(main, torch.Tensor) else main)
        if self._own:
            return self._functions.per_sample(given, as_arrays(targets))
        return self._functions.per_sample(given, main_target(targets, self._target).cpu().numpy())

    def aggregate(self, statistics: Array, /) -> float:
        """The metric's value from statistics (N, k)."""
        return self._functions.aggregate(statistics)


def _array(value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        return np.asarray((value.float() if value.is_floating_point() else value).cpu().numpy())
    return np.asarray(value)
