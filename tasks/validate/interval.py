"""95 % confidence intervals of quality metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ...ray_workers.metrics.sums import OfSums
from .bootstrap import bootstrap, bootstrap_of
from .few_changes import around_few_changes, around_few_errors, tango, wilson
from .tails import EVEN, Tails

Array = np.ndarray[Any, Any]
_MOST_SAMPLES = 10**9


def quality_interval(
    statistics: Array, aggregate: Callable[[Array], float], tails: Tails = EVEN
) -> tuple[float, float, float]:
    """A metric's value and its 95 % interval.

    A share of correct answers has Wilson's interval
    (https://doi.org/10.1080/01621459.1927.10502953), which is accurate near 0 and 1; any other
    metric a bootstrap over samples, and those of answers an interval at least as wide as Wilson's
    where few are wrong (`few_changes.py`). What has no value or no interval (one sample) is NaN.

    Args:
        statistics: One row per sample, (N, k); NaN in a single column, or in all: the sample
            doesn't count.
        aggregate: From rows to the metric.
        tails: Of another interval than that of 95 %.
    """
    statistics = statistics[counting(statistics)]
    if not len(statistics):
        return math.nan, math.nan, math.nan
    value = aggregate(statistics)
    if is_share(statistics, aggregate):
        return (value, *wilson(value, len(statistics), tails))
    bounds = bootstrap(statistics, aggregate, tails)
    return value, *_around(value, *_no_narrower(bounds, aggregate, tails, statistics))


def drop_interval(
    reference: Array,
    candidate: Array,
    aggregate: Callable[[Array], float],
    higher_is_better: bool,
    tails: Tails = EVEN,
) -> tuple[float, float, float]:
    """How much worse a candidate is than its reference, paired by sample, with a 95 % interval.

    Shares of correct answers have Tango's score interval, which is honest for few samples too, also
    where the two never differ; any other metric has a bootstrap over samples, and those of answers
    an interval at least as wide as Tango's where few changed (`few_changes.py`).

    Args:
        reference: Statistics of the reference, one row per sample, (N, k).
        candidate: Statistics of the candidate for the same samples, (N, k).
        aggregate: From rows to the metric.
        higher_is_better: Direction of the metric.
        tails: Of another interval than that of 95 %.
    """
    sign = 1 if higher_is_better else -1
    counts = counting(reference) & counting(candidate)
    reference, candidate = reference[counts], candidate[counts]
    if not len(reference):
        return math.nan, math.nan, math.nan
    count = len(reference)
    value = sign * (aggregate(reference) - aggregate(candidate))
    if is_share(reference, aggregate) and is_share(candidate, aggregate):
        worse = int(
            ((reference > candidate) if higher_is_better else (reference < candidate)).sum()
        )
        better = int(
            ((reference < candidate) if higher_is_better else (reference > candidate)).sum()
        )
        return (value, *tango(worse, better, count, tails))
    bounds = bootstrap_of(
        (reference, candidate), aggregate, lambda values: sign * (values[0] - values[1]), tails
    )
    bounds = _no_narrower(bounds, aggregate, tails, reference, candidate, sign)
    return value, *_around(value, *bounds)


def with_bounds(name: str, found: tuple[float, float, float]) -> dict[str, float]:
    """A value and the bounds of its interval, if it has one, under MLflow's names."""
    named = zip((name, f"{name}_low", f"{name}_high"), found, strict=True)
    return {key: number for key, number in named if not math.isnan(number)}


def counting(statistics: Array) -> Array:
    """Which samples count (N,): a row that is all NaN doesn't."""
    return np.asarray(~np.isnan(statistics).all(axis=1))


def _no_narrower(
    bounds: tuple[float, float],
    aggregate: Callable[[Array], float],
    tails: Tails,
    statistics: Array,
    candidate: Array | None = None,
    sign: int = 1,
) -> tuple[float, float]:
    """Bounds by resampling, widened where few answers are wrong, or changed."""
    if not isinstance(aggregate, OfSums) or math.isnan(bounds[0]):
        return bounds
    if candidate is None:
        least = around_few_errors(statistics, aggregate, tails)
    else:
        least = around_few_changes(statistics, candidate, aggregate, sign, tails)
    return bounds if least is None else (min(bounds[0], least[0]), max(bounds[1], least[1]))


def _around(value: float, low: float, high: float) -> tuple[float, float]:
    """Bounds that hold the value: NaN if there are none."""
    return (low, high) if math.isnan(low) else (min(low, value), max(high, value))


def is_share(statistics: Array, aggregate: Callable[[Array], float]) -> bool:
    """Whether a metric is the share of ones in a column of zeros and ones."""
    binary = statistics.shape[1] == 1 and bool(np.isin(statistics, (0.0, 1.0)).all())
    return binary and math.isclose(aggregate(statistics), float(statistics.mean()), abs_tol=1e-9)


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
        return tango(0, 0, count)[1] <= limit

    if not sure(_MOST_SAMPLES):
        return None
    below, enough = 0, _MOST_SAMPLES
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if sure(middle) else (middle, enough)
    return enough
