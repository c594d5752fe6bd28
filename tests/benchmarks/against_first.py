"""Time artifacts against the first of them, in one session of Hone's own benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from prefect_hone.tasks.benchmark.session import Entrant, run_session
from prefect_hone.tasks.benchmark.statistics import ratio, round_medians


class Timed(NamedTuple):
    """What a session says of an artifact: its median (ms), and how many times faster than the first
    it is, with the 95 % interval."""

    p50_ms: float
    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.p50_ms:8.3f} ms {self.ratio:6.2f} [{self.low:.2f}, {self.high:.2f}]"


def timed(entrants: list[Entrant], batches: list[Any], seconds: float) -> dict[str, Timed]:
    """Batches of one sample, each entrant alone in its process, in interleaved rounds.

    Args:
        seconds: For each entrant (s).
    """
    calls = run_session(entrants, {1: batches}, seconds).calls
    medians = {name: [round_medians(r) for r in by_size[1]] for name, by_size in calls.items()}
    first = medians[entrants[0].name]
    return {
        name: Timed(1e3 * float(np.median(np.concatenate(found))), *ratio(first, found))
        for name, found in medians.items()
    }
