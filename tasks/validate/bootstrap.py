"""Bootstrap intervals over samples, corrected for bias and skewness.

BCa (Efron, https://doi.org/10.1080/01621459.1987.10478410), with quantiles of Student's t as in
Hesterberg's expanded percentiles (https://doi.org/10.1080/00031305.2015.1089789): without them, the
interval of a few samples is too narrow. Metrics that follow from sums over samples (`OfSums`) are
evaluated for many resamples at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

from ...ray_workers.metrics.sums import OfSums
from ...recipe.errors import InputError
from .tails import EVEN, Tails

Array = np.ndarray[Any, Any]
Aggregate = Callable[[Array], float]
_NORMAL = NormalDist()
#: Resamples: enough for the tails of an interval, and for large statistics what is left of
#: `_MOST_NUMBERS`, so that the same data always have the same interval.
_FEWEST, _MOST = 400, 2000
#: Where each is evaluated alone.
_MOST_ALONE = 1000
_MOST_NUMBERS = 4 * 10**8
_JACKKNIFE_GROUPS = 200
#: Resamples that are evaluated at once.
_AT_ONCE = 100
#: The same metric that is computed in another order, as a share of its value.
_ROUNDING = 1e-12


def bootstrap(statistics: Array, aggregate: Aggregate, tails: Tails = EVEN) -> tuple[float, float]:
    """A 95 % interval of a metric over samples; seeded, so it is reproducible.

    Args:
        statistics: One row per sample, (N, k).
        aggregate: From rows to the metric.
        tails: Of another interval.

    Returns:
        Its bounds; NaN if there are fewer than two samples, or the metric has no value or interval.
    """
    return bootstrap_of((statistics,), aggregate, lambda values: values[0], tails)


def bootstrap_of(
    statistics: tuple[Array, ...],
    aggregate: Aggregate,
    combine: Callable[[Array], Array],
    tails: Tails = EVEN,
) -> tuple[float, float]:
    """A 95 % interval of what follows from a metric of several models on the same samples.

    Args:
        statistics: Of each model, one row per sample, (N, k).
        aggregate: From rows to the metric.
        combine: From the metrics of the models (models, ...) to what is asked for (...).
        tails: Of another interval.
    """
    count = len(statistics[0])
    has_none = isinstance(aggregate, OfSums) and not aggregate.has_interval
    if count < 2 or has_none:
        return math.nan, math.nan
    sampled = [_Sampled(rows, aggregate) for rows in statistics]
    found = float(combine(np.array([one.whole() for one in sampled])))
    if math.isnan(found):
        return math.nan, math.nan
    width = sum(rows.shape[1] for rows in statistics)
    most = _MOST if isinstance(aggregate, OfSums) else _MOST_ALONE
    resamples = min(max(_MOST_NUMBERS // (count * width), _FEWEST), most)
    generator = np.random.default_rng(0)
    drawn = np.concatenate(
        [
            combine(np.array([one.resampled(chosen) for one in sampled]))
            for chosen in _draws(generator, count, resamples)
        ]
    )
    order = np.random.default_rng(1).permutation(count)
    groups = np.array_split(order, min(count, _JACKKNIFE_GROUPS))
    left_out = combine(np.array([one.without(groups) for one in sampled]))
    left_out = left_out[~np.isnan(left_out)]
    return _corrected(found, drawn[~np.isnan(drawn)], left_out, count, tails)


def _draws(generator: np.random.Generator, count: int, resamples: int) -> list[Array]:
    """Indices of resamples (R, N), as many at once as are evaluated at once."""
    sizes = [_AT_ONCE] * (resamples // _AT_ONCE) + [resamples % _AT_ONCE] * (
        resamples % _AT_ONCE > 0
    )
    return [generator.integers(0, count, (size, count)) for size in sizes]


class _Sampled:
    """The metric of one model, of parts of its samples.

    Args:
        rows: Statistics (N, k).
        aggregate: From rows to the metric.
    """

    def __init__(self, rows: Array, aggregate: Aggregate) -> None:
        self._of_sums = aggregate if isinstance(aggregate, OfSums) else None
        self._rows = rows if self._of_sums is None else self._of_sums.columns(rows)
        self._aggregate = aggregate

    def whole(self) -> float:
        if self._of_sums is None:
            return self._aggregate(self._rows)
        return float(self._of_sums.value(self._rows.sum(axis=0), len(self._rows)))

    def _value(self, rows: Array) -> float:
        """NaN where a function of the user's refuses a part of the samples, without a class say."""
        try:
            return self._aggregate(rows)
        except InputError:
            return math.nan

    def resampled(self, chosen: Array) -> Array:
        """Of each resample (R,), from indices (R, N)."""
        if self._of_sums is None:
            return np.array([self._value(self._rows[rows]) for rows in chosen])
        size, count = chosen.shape
        places = chosen + count * np.arange(size)[:, None]
        weights = np.bincount(places.ravel(), minlength=size * count).reshape(size, count)
        return self._of_sums.value(weights.astype(self._rows.dtype) @ self._rows, count)

    def without(self, groups: list[Array]) -> Array:
        """With each group of samples left out."""
        if self._of_sums is None:
            kept = np.ones((len(groups), len(self._rows)), bool)
            for mask, group in zip(kept, groups, strict=True):
                mask[group] = False
            return np.array([self._value(self._rows[mask]) for mask in kept])
        total = self._rows.sum(axis=0)
        return np.array(
            [
                self._of_sums.value(total - self._rows[g].sum(axis=0), len(self._rows) - len(g))
                for g in groups
            ]
        )


def _corrected(
    found: float, drawn: Array, left_out: Array, count: int, tails: Tails
) -> tuple[float, float]:
    """Quantiles of the resamples' values that make up for bias and skewness."""
    from scipy.special import stdtrit  # the quantile of Student's t

    if not len(drawn):
        return math.nan, math.nan
    near = _ROUNDING * max(abs(found), float(np.abs(drawn).max()))
    lower = (drawn < found - near).mean() + (np.abs(drawn - found) <= near).mean() / 2
    rarest = 0.5 / len(drawn)
    bias = _NORMAL.inv_cdf(min(max(float(lower), rarest), 1 - rarest))
    skewness = _acceleration(left_out)
    wider = math.sqrt(count / (count - 1))
    below, above = (float(stdtrit(count - 1, 1 - tail)) * wider for tail in tails)
    low, high = np.quantile(drawn, [_share(bias, skewness, end) for end in (-below, above)])
    return float(low), float(high)


def _share(bias: float, skewness: float, quantile: float) -> float:
    """The share of resamples below a bound."""
    moved = bias + quantile
    room = 1 - skewness * moved
    if room <= 0:  # more skewed than the correction can follow
        return float(quantile > 0)
    return _NORMAL.cdf(bias + moved / room)


def _acceleration(left_out: Array) -> float:
    """How fast the metric's spread changes with it, from values without each group of samples."""
    if not len(left_out):
        return 0.0
    apart = left_out.mean() - left_out
    squares = float(np.square(apart).sum())
    return float((apart**3).sum() / (6 * squares**1.5)) if squares > 0 else 0.0
