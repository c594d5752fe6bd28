"""What rounds of timed calls say: percentiles, and ratios with an interval that survives noise.

Every candidate is timed in every round, so a neighbour that slows the machine for a while slows
both sides of a ratio. The interval is that of the median of the rounds' ratios by order
statistics, which asks nothing of their distribution (Conover, Practical Nonparametric Statistics,
section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Rounds = Sequence[Sequence[float]]


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """An interval for the median that holds it with at least the given confidence.

    With too few values for that, it is their whole range.
    """
    ordered = sorted(values)
    count = len(ordered)
    below, rank = 0.0, 0
    for k in range(count):
        below += math.comb(count, k) / 2**count
        if 2 * below > 1 - confidence:
            break
        rank = k + 1
    rank = max(rank, 1)
    return ordered[rank - 1], ordered[count - rank]


def round_medians(rounds: Rounds) -> list[float]:
    """The median duration of each round (s)."""
    return [float(np.median(durations)) for durations in rounds]


def ratio(slower: Sequence[float], faster: Sequence[float]) -> tuple[float, float, float]:
    """How many times faster the second is than the first, with its 95 % interval.

    Args:
        slower: Median duration of each round (s).
        faster: Median duration of each of the same rounds (s).
    """
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    return (float(np.median(ratios)), *median_interval(ratios))


def latency(rounds: Rounds, batch_size: int) -> dict[str, float]:
    """Percentiles of all calls (ms), the interval of the median, and samples a second."""
    calls = np.concatenate([np.asarray(durations) for durations in rounds]) * 1e3
    p50, p90, p99 = (float(value) for value in np.percentile(calls, (50, 90, 99)))
    low, high = median_interval([value * 1e3 for value in round_medians(rounds)])
    return {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "p50_low_ms": min(low, p50),
        "p50_high_ms": max(high, p50),
        "calls": float(len(calls)),
        "samples_per_s": batch_size * 1e3 / p50,
    }
