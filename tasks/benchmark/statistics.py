"""Statistics of rounds of timed calls: percentiles, and ratios with a robust interval.

Every candidate is timed in every round, so other load that slows the machine for a while slows both
sides of a ratio. Two processes with the same artifact still differ by one to three percent, because
of memory placement. So each is launched several times, and a ratio's interval covers both the
spread between rounds (order statistics, without assumptions about the distribution: Conover,
Practical Nonparametric Statistics, section 3.2) and the spread between launches (Student's t of the
launches' log ratios).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...recipe.benchmark import SHOULD_BE_TOLD

Rounds = Sequence[Sequence[float]]
Launches = Sequence[Sequence[float]]

#: 97.5 and 99.5 % quantile of Student's t, by the number of launches.
_STUDENT = {
    2: (12.706, 63.657), 3: (4.303, 9.925), 4: (3.182, 5.841), 5: (2.776, 4.604),
    6: (2.571, 4.032), 7: (2.447, 3.707), 8: (2.365, 3.499), 9: (2.306, 3.355),
    10: (2.262, 3.250), 11: (2.228, 3.169), 12: (2.201, 3.106), 13: (2.179, 3.055),
    14: (2.160, 3.012), 15: (2.145, 2.977), 16: (2.131, 2.947),
}  # fmt: skip
_USUAL, _STRICT = 0.95, 0.99


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """A confidence interval of the median, with at least the given confidence.

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


def ratio(
    slower: Launches, faster: Launches, *, strict: bool = False
) -> tuple[float, float, float]:
    """How many times faster the second is than the first, with its 95 % interval.

    Args:
        slower: Median duration of each round (s), by launch.
        faster: Median duration of each of the same rounds (s), by launch.
        strict: Whether the interval is of 99 % instead.

    Returns:
        The median of all rounds' ratios, and the interval: the hull of that between rounds and
        that between launches.
    """
    by_launch = [
        [a / b for a, b in zip(one, other, strict=True)]
        for one, other in zip(slower, faster, strict=True)
    ]
    ratios = [value for launch in by_launch for value in launch]
    low, high = median_interval(ratios, _STRICT if strict else _USUAL)
    if len(by_launch) > 1:
        logs = np.log([float(np.median(launch)) for launch in by_launch])
        half = _STUDENT[len(logs)][strict] * float(logs.std(ddof=1)) / math.sqrt(len(logs))
        low = min(low, math.exp(float(logs.mean()) - half))
        high = max(high, math.exp(float(logs.mean()) + half))
    return float(np.median(ratios)), low, high


def is_settled(slower: Launches, faster: Launches) -> bool:
    """Whether further launches are not needed to compare two candidates: they are told apart (at
    99 %, because this may be asked after each launch), or any difference is below 5 % (at 95 %).
    """
    _, low, high = ratio(slower, faster)
    if low > 1 / (1 + SHOULD_BE_TOLD) and high < 1 + SHOULD_BE_TOLD:
        return True
    _, low, high = ratio(slower, faster, strict=True)
    return low > 1 or high < 1


#: Fewest calls that tell a percentile, by MLPerf Inference's rules for early stopping (64 queries
#: of a single stream for the 90th, 662 of several streams for the 99th percentile).
ENOUGH_CALLS = {90: 64, 99: 662}


def latency(rounds: Rounds, batch_size: int) -> dict[str, float | None]:
    """Percentiles of all calls (ms), the interval of the median, and samples per second.

    A percentile for which there are too few calls is None.
    """
    calls = np.concatenate([np.asarray(durations) for durations in rounds]) * 1e3
    p50 = float(np.median(calls))
    p90, p99 = (
        float(np.percentile(calls, percent)) if len(calls) >= enough else None
        for percent, enough in ENOUGH_CALLS.items()
    )
    low, high = median_interval([value * 1e3 for value in round_medians(rounds)])
    return {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "p50_ms_low": min(low, p50),
        "p50_ms_high": max(high, p50),
        "calls": float(len(calls)),
        "samples_per_s": batch_size * 1e3 / p50,
    }
