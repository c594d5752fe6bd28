"""How much of an interval's uncertainty lies beyond each of its ends.

The largest of several numbers that were measured with noise looks larger than it is. So its
interval is made of those of all of them: it is above the largest of their upper bounds only if the
number that is truly the largest is above its own, and below the largest of their lower bounds only
if one of them all is below its own, which Bonferroni's inequality bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

_NORMAL = NormalDist()
_OUTSIDE = 0.05


class Tails(NamedTuple):
    """The probability of a truth below an interval, and of one above it."""

    below: float = _OUTSIDE / 2
    above: float = _OUTSIDE / 2

    @property
    def deviations(self) -> tuple[float, float]:
        """From a normal's mean to each end, in standard deviations."""
        return tuple(_NORMAL.inv_cdf(1 - tail) for tail in self)  # type: ignore[return-value]


#: Of a 95 % interval.
EVEN = Tails()


def tails_of_largest(count: int) -> Tails:
    """For each of so many intervals, of which the 95 % interval of the largest is made."""
    above = _OUTSIDE * count / (count + 1)
    return Tails(below=above / count, above=above)


def largest(
    found: Sequence[tuple[float, float, float]],
) -> tuple[float, float, float]:
    """The largest of several values with its 95 % interval.

    Args:
        found: Each value, with the bounds of its interval of `tails_of_largest`; NaN: it has none.
    """
    value = max(value for value, _, _ in found)
    bounds = [(low, high) for _, low, high in found if not math.isnan(low)]
    if len(bounds) < len(found):  # one could be anything
        return value, math.nan, math.nan
    return value, max(low for low, _ in bounds), max(high for _, high in bounds)
