"""Queries that arrive at given times, answered in order of arrival by one or more processes.

All processes that answer take the number of the next query from a file that they append to: the
system appends whole, and one after the other, so each number is taken once, and whoever is free
takes the oldest query (a queue with several servers). Nothing has to deal queries out beside them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from .disturbance import Disturbance
from .predict import Array, Arrays, Predict

#: Time before an arrival that is waited for without sleep (s): sleep may take longer than asked.
_AWAKE = 1e-3


def answer_queries(
    predict: Predict,
    batches: list[Arrays],
    arrivals: Array,
    start: float,
    numbers: Path,
    bound: float,
    allowed: int,
) -> tuple[list[float], float]:
    """Answer queries until all are taken, or too many were late.

    Args:
        predict: Answers one.
        batches: Inputs of one sample, taken in turn.
        arrivals: Time of each arrival (N,), from the start on (s), ascending.
        start: When it starts, by `time.monotonic` (s), which all processes of a system share.
        numbers: The file that numbers are taken from; empty at first.
        bound: A latency beyond it is late (s).
        allowed: So many may be late.

    Returns:
        The latency of each query that this process answered, from its arrival on (s), and the share
        of the time that was lost to other work on the machine.
    """
    clock = time.monotonic
    latencies: list[float] = []
    late = 0
    descriptor = os.open(numbers, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        predict(batches[-1])  # wakes caches and threads; not counted
        wait_until(start)
        watched = Disturbance()
        while late <= allowed:
            os.write(descriptor, b".")
            number = os.lseek(descriptor, 0, os.SEEK_CUR) - 1
            if number >= len(arrivals):
                break
            due = start + float(arrivals[number])
            wait_until(due)
            predict(batches[number % len(batches)])
            latencies.append(clock() - due)
            late += latencies[-1] > bound
        else:
            os.write(descriptor, b"." * len(arrivals))  # the other processes can stop, too
        return latencies, watched.share()
    finally:
        os.close(descriptor)


def wait_until(moment: float) -> None:
    """Wait for a moment by `time.monotonic` (s)."""
    left = moment - time.monotonic()
    if left > _AWAKE:
        time.sleep(left - _AWAKE)
    while time.monotonic() < moment:
        pass
