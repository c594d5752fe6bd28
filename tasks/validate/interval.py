"""95 % confidence intervals of quality metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
_RESAMPLES = 1000
_MOST_SAMPLES = 10**9
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


def drop_interval(
    reference: Array,
    candidate: Array,
    aggregate: Callable[[Array], float],
    higher_is_better: bool,
) -> tuple[float, float, float]:
    """How much worse a candidate is than its reference, paired by sample, with a 95 % interval.

    Shares of correct answers have the interval of Bonett and Price, which is honest for few samples
    too, also where the two never differ (https://doi.org/10.3102/1076998611411915); any other
    metric has a bootstrap over samples.

    Args:
        reference: Statistics of the reference, one row per sample, (N, k).
        candidate: Statistics of the candidate for the same samples, (N, k).
        aggregate: From rows to the metric.
        higher_is_better: Direction of the metric.
    """
    sign = 1 if higher_is_better else -1
    if reference.shape[1] == 1:  # NaN: the sample doesn't count
        counts = ~(np.isnan(reference[:, 0]) | np.isnan(candidate[:, 0]))
        reference, candidate = reference[counts], candidate[counts]

    def drop(rows: Array) -> float:
        return sign * (aggregate(reference[rows]) - aggregate(candidate[rows]))

    count = len(reference)
    value = drop(np.arange(count))
    if _is_share(reference, aggregate) and _is_share(candidate, aggregate):
        worse = int(
            ((reference > candidate) if higher_is_better else (reference < candidate)).sum()
        )
        better = int(
            ((reference < candidate) if higher_is_better else (reference > candidate)).sum()
        )
        return (value, *bonett_price(worse, better, count))
    low, high = bootstrap(drop, count)
    return value, min(low, value), max(high, value)


def _is_share(statistics: Array, aggregate: Callable[[Array], float]) -> bool:
    """Whether a metric is the share of ones in a column of zeros and ones."""
    binary = statistics.shape[1] == 1 and bool(np.isin(statistics, (0.0, 1.0)).all())
    return binary and math.isclose(aggregate(statistics), float(statistics.mean()), abs_tol=1e-9)


def bonett_price(worse: int, better: int, count: int) -> tuple[float, float]:
    """Bonett and Price's 95 % interval of a difference between paired shares, as a loss.

    Args:
        worse: Samples that only the reference has right.
        better: Samples that only the candidate has right.
        count: All samples.
    """
    first, second = (worse + 1) / (count + 2), (better + 1) / (count + 2)
    half = _Z * math.sqrt((first + second - (first - second) ** 2) / (count + 2))
    return max(-1.0, first - second - half), min(1.0, first - second + half)


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


def samples_to_say(what: Literal["value", "drop"], limit: float) -> int | None:
    """How many test samples it takes at least to be certain of a limit at 95 %.

    That is if all is as well as can be: all answers right, or none other than the reference's.

    Args:
        what: A share of right answers that is to be at least `limit`, or its drop that is to be at
            most `limit`.
        limit: The limit.

    Returns:
        The number of samples; None if no number is enough.
    """

    def sure(count: int) -> bool:
        if what == "value":
            return wilson(1.0, count)[0] >= limit
        return bonett_price(0, 0, count)[1] <= limit

    if not sure(_MOST_SAMPLES):
        return None
    below, enough = 0, _MOST_SAMPLES
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if sure(middle) else (middle, enough)
    return enough
