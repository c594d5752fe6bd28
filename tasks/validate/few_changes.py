"""Intervals where few answers changed or are wrong, or none: resampling can't draw what never was.

A share has Wilson's interval (https://doi.org/10.1080/01621459.1927.10502953), and paired shares
have Tango's (Equivalence test and confidence interval for the difference in proportions for the
paired-sample design, Statistics in Medicine 17, 1998, pages 891 to 908). Other metrics of answers
(F1, balanced accuracy, IoU, Dice) get these in units of the metric: by how much it falls if a small
share of all samples turns wrong.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ray_workers.metrics.sums import OfSums
from .tails import EVEN, Tails

Array = np.ndarray[Any, Any]
#: With fewer samples that changed, or are wrong, resampling alone is too narrow.
_FEW = 10
_STEPS = 60  # of a bisection
_AT_ONCE = 1000  # samples


def tango(worse: int, better: int, count: int, tails: Tails = EVEN) -> tuple[float, float]:
    """Tango's score interval of a difference between paired shares, as a loss.

    Args:
        worse: Samples that only the reference has right.
        better: Samples that only the candidate has right.
        count: All samples.
        tails: Of the interval; by default of 95 %.
    """
    middle = (worse - better) / count

    def beyond(loss: float, deviations: float) -> bool:
        """Whether a loss is refuted by the samples."""
        off = worse - better - count * loss
        return off * off > deviations**2 * count * _variance(worse, better, count, loss)

    ends = []
    for end, reach in zip((-1.0, 1.0), tails.deviations, strict=True):
        inside, outside = middle, end
        if beyond(end, reach):
            for _ in range(_STEPS):
                between = (inside + outside) / 2
                refuted = beyond(between, reach)
                inside, outside = (inside, between) if refuted else (between, outside)
        else:
            inside = end
        ends.append(inside)
    return ends[0], ends[1]


def _variance(worse: int, better: int, count: int, loss: float) -> float:
    """Of a sample's difference, by the shares that are most likely if this is the loss."""
    linear = (2 * count - worse + better) * loss - worse - better
    constant = -better * loss * (1 - loss)
    root = math.sqrt(max(linear * linear - 8 * count * constant, 0.0))
    return 2 * (root - linear) / (4 * count) + loss * (1 - loss)


def wilson(share: float, count: int, tails: Tails = EVEN) -> tuple[float, float]:
    """Wilson's score interval for a share of `count` trials; by default of 95 %."""
    ends = []
    for sign, reach in zip((-1, 1), tails.deviations, strict=True):
        square = reach * reach
        middle = share + square / (2 * count)
        half = reach * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
        ends.append((middle + sign * half) / (1 + square / count))
    # Exactly, where none or all are: rounding would leave the share outside.
    return (max(0.0, ends[0]) if share > 0 else 0.0, min(1.0, ends[1]) if share < 1 else 1.0)


def around_few_errors(
    statistics: Array, aggregate: OfSums, tails: Tails = EVEN
) -> tuple[float, float] | None:
    """An interval of a metric of answers that are nearly all right; None elsewhere.

    Args:
        statistics: One row per sample, (N, k).
        aggregate: The metric, of which higher is better.
        tails: Of the interval.
    """
    if aggregate.answers is None or len(statistics) < 2:
        return None
    columns = aggregate.columns(statistics)
    count = len(columns)
    wrong = int((~aggregate.answers.all_right(columns)).sum())
    if wrong >= _FEW:
        return None
    value = float(aggregate.value(columns.sum(axis=0), count))
    low, high = wilson(wrong / count, count, Tails(tails.above, tails.below))
    unit = _unit(columns, aggregate)
    return value - (high - wrong / count) * unit, value + (wrong / count - low) * unit


def _unit(columns: Array, aggregate: OfSums) -> float:
    """By how much a metric falls if samples turn wrong, for each share of them: of few samples."""
    assert aggregate.answers is not None  # noqa: S101 (narrows a type)
    count, total = len(columns), columns.sum(axis=0)
    whole, unit = float(aggregate.value(total, count)), 0.0
    for start in range(0, count, _AT_ONCE):
        some = columns[start : start + _AT_ONCE]
        left = aggregate.value(total - some + aggregate.answers.turned_wrong(some), count)
        unit += float(np.nansum(np.maximum(whole - left, 0.0)))
    return unit


def around_few_changes(
    reference: Array, candidate: Array, aggregate: OfSums, sign: int, tails: Tails = EVEN
) -> tuple[float, float] | None:
    """An interval of the drop of a metric of answers where few samples changed; None elsewhere.

    Args:
        reference: Statistics of the reference, (N, k).
        candidate: Statistics of the candidate for the same samples, (N, k).
        aggregate: The metric.
        sign: 1 if higher is better, else -1.
        tails: Of the interval.
    """
    if aggregate.answers is None or len(reference) < 2:
        return None
    before, after = aggregate.columns(reference), aggregate.columns(candidate)
    if before.shape != after.shape:
        return None
    changed = (before != after).any(axis=1)
    if int(changed.sum()) >= _FEW:
        return None
    count, total = len(before), before.sum(axis=0)
    whole = float(aggregate.value(total, count))

    def lost(old: Array, new: Array) -> Array:
        """How much the metric falls with each sample alone as it is in the new columns (n,)."""
        return np.asarray(sign * (whole - aggregate.value(total - old + new, count)), np.float64)

    effects = lost(before[changed], after[changed])
    unit = _unit(before, aggregate)
    worse, better = int((effects > 0).sum()), int((effects < 0).sum())
    low, high = tango(worse, better, count, tails)
    drop = sign * (whole - float(aggregate.value(after.sum(axis=0), count)))
    middle = (worse - better) / count
    return drop + (low - middle) * unit, drop + (high - middle) * unit
