"""When the best few have been measured often enough to be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .session import Calls, Until
from .statistics import is_settled, round_medians

#: Launches before it is asked whether they are enough.
_FEWEST = 3


def until_settled(
    names: Sequence[str], batch_sizes: Sequence[int], launches: int, most: int
) -> Until:
    """Until the fastest entrant can be told from each of the others, or is within 5 % of it.

    Args:
        names: The entrants that are compared.
        batch_sizes: At which they are.
        launches: Of a session that does not ask.
        most: The most launches.
    """

    def settled(calls: dict[str, dict[int, Calls]]) -> bool:
        able = [calls[name] for name in names if name in calls]
        return all(_are_settled([by_size[size] for by_size in able]) for size in batch_sizes)

    return Until(min(launches, _FEWEST), max(most, launches), settled)


def _are_settled(entrants: list[Calls]) -> bool:
    rounds = [[round_medians(launch) for launch in launches] for launches in entrants]
    if not rounds:
        return True
    first = min(rounds, key=lambda launches: float(np.median(np.concatenate(launches))))
    return all(is_settled(other, first) for other in rounds if other is not first)
