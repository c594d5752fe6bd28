"""Slices that other work disturbed are timed again, and what stays disturbed is told."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import threading
import time

import pytest
from prefect_hone.ray_workers.runtime_process import TimedCalls
from prefect_hone.runtimes import disturbance
from prefect_hone.runtimes.disturbance import Disturbance
from prefect_hone.tasks.benchmark.session import Energy, TimingSession
from prefect_hone.tasks.specs.benchmark import OtherLoad


class Answering:
    """A process whose slices are disturbed as it is told."""

    def __init__(self, *shares: float) -> None:
        self._shares = list(shares)

    def time_calls(self, seconds: float) -> TimedCalls:
        share = self._shares.pop(0)
        return TimedCalls([share], share)


@pytest.mark.parametrize(
    ("shares", "kept", "load"),
    [
        ((0.0,), 0.0, (1, 0, 0)),
        ((0.05,), 0.05, (1, 0, 0)),
        ((0.5, 0.01), 0.01, (1, 1, 0)),
        ((0.5, 0.2, 0.3), 0.2, (1, 2, 1)),
        ((0.2, 0.5, 0.3), 0.2, (1, 2, 1)),
    ],
)
def test_the_least_disturbed_of_a_few_tries_counts(
    shares: tuple[float, ...], kept: float, load: tuple[int, int, int]
) -> None:
    with contextlib.ExitStack() as stack:
        session = TimingSession(stack, random.Random(0))
        found = session._least_disturbed(Answering(*shares), 0.1)  # type: ignore[arg-type]
        assert found == ([kept], Energy())
    assert session.others == OtherLoad(slices=load[0], repeated=load[1], disturbed=load[2])


def test_a_busy_machine_is_told_and_a_quiet_one_is_not() -> None:
    assert OtherLoad().told() is None
    assert OtherLoad(slices=100, repeated=30, disturbed=10).told() is None
    said = OtherLoad(slices=100, repeated=60, disturbed=40).told()
    assert said is not None
    assert "in 40 of 100 timed slices" in said


def test_time_lost_is_a_share_of_the_time_since(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = iter([10.0, 10.02])
    monkeypatch.setattr(disturbance, "_lost", lambda: next(lost))
    watched = Disturbance()
    time.sleep(0.04)
    assert 0 < watched.share() <= 0.5


def test_threads_that_want_more_processors_than_there_are_wait() -> None:
    """By the kernel's own counts: nothing on this machine needs to be quiet for it."""
    if not disturbance._THREADS.exists():
        pytest.skip("the system counts no waiting time")
    processors = len(os.sched_getaffinity(0))
    over = threading.Event()
    data = bytes(2**22)

    def work() -> None:  # sha256 of much data runs without the interpreter's lock
        while not over.is_set():
            hashlib.sha256(data).digest()

    threads = [threading.Thread(target=work) for _ in range(2 * processors + 1)]
    watched = Disturbance()
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    share = watched.share()  # while they live: a thread that has ended is not counted any more
    over.set()
    for thread in threads:
        thread.join()
    assert share > 0.5
