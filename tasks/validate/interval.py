"""Intervals of 95 % for measures of quality."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_RESAMPLES = 1000
_Z = 1.959963984540054


def quality_interval(
    statistics: Array, aggregate: Callable[[Array], float]
) -> tuple[float, float, float]:
    """A metric's value and the 95 % interval of it.

    A share of right answers has Wilson's interval (https://doi.org/10.1080/01621459.1927.10502953),
    which stays honest near 0 and 1; anything else a bootstrap over samples.

    Args:
        statistics: One row a sample, (N, k).
        aggregate: From rows to the metric.
    """
    value = aggregate(statistics)
    if statistics.shape[1] == 1 and np.isin(statistics, (0.0, 1.0)).all():
        return (value, *wilson(value, len(statistics)))
    return (value, *bootstrap(lambda rows: aggregate(statistics[rows]), len(statistics)))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's score interval of 95 % for a share of `count` trials."""
    square = _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    half /= 1 + square / count
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(value: Callable[[Array], float], count: int) -> tuple[float, float]:
    """Percentile bootstrap of 95 % over `count` samples; seeded, so the same each time.

    Args:
        value: The number that the samples with the given indices give.
        count: Number of samples.
    """
    generator = np.random.default_rng(0)
    values = [value(generator.integers(0, count, count)) for _ in range(_RESAMPLES)]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
