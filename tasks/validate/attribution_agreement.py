"""How far two models' attributions agree, sample by sample and on average."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...ray_workers.metrics import spearman
from ...ray_workers.metrics.sums import MEAN
from .bootstrap import bootstrap
from .few_changes import wilson
from .interval import with_bounds

Array = np.ndarray[Any, Any]
_TAIL = 0.975
#: Correlations as near to 1 as this are equal to it.
_SAME = 1e-6


class Agreement(NamedTuple):
    """Of a sample.

    Attributes:
        correlation: Spearman's rank correlation of the regions.
        overlap: Which share of the regions that matter most to the first model also matter most to
            the other.
        top: How many regions these are.
    """

    correlation: float
    overlap: float
    top: int

    @classmethod
    def of(cls, before: Array, after: Array) -> Agreement:
        """Of two attributions of a sample (R,)."""
        top = top_regions(before)
        return cls(rank_correlation(before, after), top_overlap(before, after), top)


def rank_correlation(before: Array, after: Array) -> float:
    """Spearman's rank correlation of two attributions (R,); 0 if one is constant."""
    found = spearman.rank_correlation(before, after)
    return 0.0 if math.isnan(found) else found


def top_regions(values: Array) -> int:
    """A tenth of the regions, at least one."""
    return max(1, round(len(values) / 10))


def top_overlap(before: Array, after: Array) -> float:
    """Which share of the tenth of regions that matter most to the first one (at least one region)
    is also among those of the second one.
    """
    count = top_regions(before)
    top = [set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (before, after)]
    return len(top[0] & top[1]) / count


def agreement_metrics(compared: list[Agreement]) -> dict[str, float]:
    """Means over samples with their 95 % intervals, under MLflow's names.

    Few samples that agree nearly all say little about the rare ones that don't, which resampling
    can't draw. So the lower bound of the correlation is at most that of distances from 1 with a
    log-normal distribution, and the interval of the overlap at least as wide as that of independent
    regions (`tests/benchmarks/intervals_looks.py`).
    """
    correlations = np.array([[one.correlation] for one in compared])
    overlaps = np.array([[one.overlap] for one in compared])
    regions = sum(one.top for one in compared)
    return {
        **_mean("agreement", correlations, (_log_normal_bound(correlations), -1.0)),
        **_mean("top_overlap", overlaps, wilson(float(overlaps.mean()), regions)),
    }


def _mean(name: str, values: Array, least: tuple[float, float]) -> dict[str, float]:
    """A mean with an interval by resampling, which holds another one at least."""
    mean, (low, high) = float(values.mean()), bootstrap(values, MEAN)
    if not math.isnan(low):
        low, high = min(low, least[0], mean), max(high, least[1], mean)
    return with_bounds(f"explanation/{name}", (mean, low, high))


def _log_normal_bound(correlations: Array) -> float:
    """Lower 97.5 % bound of the mean of correlations, if their distances from 1 are log-normal.

    Cox's method with Student's t: U. Olsson, Confidence Intervals for the Mean of a Log-Normal
    Distribution, https://doi.org/10.1080/10691898.2005.11910638.
    """
    from scipy.special import stdtrit  # the quantile of Student's t

    count = len(correlations)
    if count < 2:
        return math.nan
    logs = np.log(np.maximum(1 - correlations, _SAME))
    spread = float(logs.var(ddof=1))
    reach = float(stdtrit(count - 1, _TAIL))
    half = reach * math.sqrt(spread / count + spread**2 / (2 * (count - 1)))
    return max(-1.0, 1 - math.exp(min(float(logs.mean()) + spread / 2 + half, math.log(2))))
