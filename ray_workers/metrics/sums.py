"""Metrics that follow from sums over samples, so that many resamples are evaluated at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .positions import Array


def _as_they_are(statistics: Array) -> Array:
    return statistics


@dataclass(frozen=True)
class Answers:
    """What the columns (N, k) of samples say of their answers.

    Attributes:
        turned_wrong: The columns of the same samples if all of their answers were wrong (N, k).
        all_right: Whether all answers of a sample are right (N,).
    """

    turned_wrong: Callable[[Array], Array]
    all_right: Callable[[Array], Array]


def _none_right(columns: Array) -> Array:
    return np.stack([np.zeros(len(columns)), columns[:, 1]], axis=1)


def _as_many_as_count(columns: Array) -> Array:
    return np.asarray(columns[:, 0] == columns[:, 1])


#: Of sums of right answers and their number (N, 2), or of shares and ones.
RIGHT_AND_ALL = Answers(_none_right, _as_many_as_count)


@dataclass(frozen=True)
class OfSums:
    """The function `aggregate` of such a metric.

    Attributes:
        value: The metric from sums (..., k) over a number of samples; NaN where it has no value.
        columns: From statistics (N, j) to what is summed (N, k); without NaN.
        has_interval: Whether resampling gives an interval. It doesn't where the metric itself is
            off by as much as it varies.
        answers: Of a metric of answers, what its columns say of them; None for other metrics.
    """

    value: Callable[[Array, int], Array]
    columns: Callable[[Array], Array] = _as_they_are
    has_interval: bool = True
    answers: Answers | None = None

    def __call__(self, statistics: Array) -> float:
        columns = self.columns(statistics)
        return float(self.value(columns.sum(axis=0), len(columns)))


def ratio(over: Array, under: Array) -> Array:
    """One by the other; NaN where the other is 0."""
    there = under != 0
    found: Array = np.where(there, over / np.where(there, under, 1), np.nan)
    return found


def mean_where(values: Array, counts: Array) -> Array:
    """The mean over the last axis of the values that count; NaN where none does."""
    return ratio(np.where(counts, values, 0).sum(axis=-1), counts.sum(axis=-1))


def _mean(sums: Array, count: int) -> Array:
    found: Array = sums[..., 0] / count
    return found


def _mean_of_sums(sums: Array, count: int) -> Array:
    return ratio(sums[..., 0], sums[..., 1])


#: Of one column, the mean; of sums and counts (N, 2), the mean over all positions.
MEAN = OfSums(_mean)
MEAN_OF_SUMS = OfSums(_mean_of_sums)
