"""95 % confidence intervals of quality metrics."""

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
    """A metric's value and its 95 % interval.

    A share of correct answers has Wilson's interval
    (https://doi.org/10.1080/01621459.1927.10502953), which is accurate near 0 and 1; any other
    metric a bootstrap over samples.

    Args:
        statistics: One row per sample, (N, k).
        aggregate: From rows to the metric.
    """
    value = aggregate(statistics)
    if statistics.shape[1] == 1 and np.isin(statistics, (0.0, 1.0)).all():
        return (value, *wilson(value, len(statistics)))
    return (value, *bootstrap(lambda rows: aggregate(statistics[rows]), len(statistics)))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for a share of `count` trials."""
    square = _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    half /= 1 + square / count
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(value: Callable[[Array], float], count: int) -> tuple[float, float]:
    """95 % percentile bootstrap over `count` samples; seeded, so it is reproducible.

    Args:
        value: The metric of the samples with the given indices.
        count: Number of samples.
    """
    generator = np.random.default_rng(0)
    values = [value(generator.integers(0, count, count)) for _ in range(_RESAMPLES)]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
