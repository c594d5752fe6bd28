"""Offline and server: what a made-up process could do is what is found."""

from __future__ import annotations

import contextlib
import heapq
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect_hone.ray_workers.runtime_process import TimedCalls
from prefect_hone.recipe.benchmark import Offline, Server
from prefect_hone.recipe.errors import StepCrashed
from prefect_hone.tasks.benchmark import scenarios as module
from prefect_hone.tasks.benchmark.scenarios import Scenarios, late_allowed
from prefect_hone.tasks.specs.benchmark import BASELINE, OtherLoad
from scipy import stats


class Process:
    """Answers each call in the same time (s), without taking any; several share a queue."""

    def __init__(self, service: float, disturbed: tuple[float, ...] = ()) -> None:
        self.service = service
        self.disturbed = list(disturbed)
        self.tries: list[float] = []
        self._told: TimedCalls | None = None
        self.colleagues: list[Process] = [self]

    def prepare(self, batches: Any) -> float:
        return self.service

    def time_calls(self, seconds: float) -> TimedCalls:
        self.begin_calls(seconds, 0.0)
        return self.timed()

    def begin_calls(self, seconds: float, start: float) -> None:
        calls = max(2, int(seconds / self.service))
        self._told = TimedCalls([self.service] * calls, 0.0)

    def begin_queries(
        self, arrivals: Any, start: float, numbers: Path, bound: float, allowed: int
    ) -> None:
        share = self.disturbed.pop(0) if self.disturbed else 0.0
        if self is not self.colleagues[0]:
            self._told = TimedCalls([], 0.0)
            return
        self.tries.append(len(arrivals) / float(arrivals[-1]))
        free = [0.0] * len(self.colleagues)
        latencies: list[float] = []
        for due in arrivals:
            done = max(heapq.heappop(free), float(due)) + self.service * (1 + share)
            heapq.heappush(free, done)
            latencies.append(done - float(due))
        self._told = TimedCalls(latencies, share)

    def timed(self) -> TimedCalls:
        assert self._told is not None
        return self._told


class Session:
    """A session of such processes."""

    def __init__(self, **processes: list[Process]) -> None:
        self.made = processes
        for some in processes.values():
            for process in some:
                process.colleagues = some
        self.running = {name: some[0] for name, some in processes.items()}
        self.others = OtherLoad()
        self._random = random.Random(0)

    def processes(self, name: str, instances: int) -> list[Process]:
        return self.made[name][:instances]

    def shuffle(self, names: list[str]) -> list[str]:
        return self._random.sample(names, len(names))

    @contextlib.contextmanager
    def together(self, name: str, instances: int) -> Iterator[list[Process]]:
        try:
            yield self.processes(name, instances)
        except StepCrashed:
            self.running.pop(name)


def measured(session: Session, *asked: Offline | Server, launches: int = 2) -> dict[str, Any]:
    scenarios = Scenarios(asked, {1: [], 8: []}, 8, 0.5, launches)
    for launch in range(launches):
        scenarios.measure(session, launch)  # type: ignore[arg-type]
    return scenarios.results({})


@pytest.mark.parametrize("count", [300, 662, 2000])
def test_how_many_may_be_late_is_loadgens_rule(count: int) -> None:
    allowed = late_allowed(count)
    if allowed >= 0:
        assert stats.binom.cdf(allowed, count, 0.01) <= 0.01
    assert stats.binom.cdf(allowed + 1, count, 0.01) > 0.01
    assert (late_allowed(458), late_allowed(459)) == (-1, 0)


def test_offline_counts_samples_of_all_processes() -> None:
    session = Session(
        one=[Process(0.01), Process(0.01)], other=[Process(0.02)] * 2, **{BASELINE: [Process(0.1)]}
    )
    found = measured(session, Offline(kind="offline", instances=2))
    assert set(found) == {"one", "other"}, "the baseline is no candidate"
    assert found["one"]["offline"].rate == pytest.approx(2 * 8 / 0.01)
    assert found["other"]["offline"].rate == pytest.approx(2 * 8 / 0.02)
    assert found["one"]["offline"].instances == 2
    assert len(found["one"]["offline"].rounds) == 2, "launches"
    assert found["one"]["offline"].rate_low == pytest.approx(found["one"]["offline"].rate)


def test_the_rate_that_is_found_is_that_of_queueing_theory() -> None:
    """M/D/1: at utilization r the 99th percentile of the wait is about that of an exponential tail
    (Tijms, A First Course in Stochastic Models, section 9.2); here by a long simulation.
    """
    service, bound = 0.001, 0.004
    session = Session(a=[Process(service)])
    found = measured(
        session, Server(kind="server", p99_ms=1e3 * bound, seconds=20), launches=2
    )["a"]["server"]  # fmt: skip
    rng = np.random.default_rng(5)

    def p99(rate: float) -> float:
        gaps = rng.standard_exponential(60_000) / rate
        wait, waits = 0.0, []
        for gap in gaps:
            wait = max(0.0, wait + service - gap)
            waits.append(wait)
        return float(np.percentile(waits, 99)) + service

    assert p99(found.rate) <= bound
    assert p99(1.15 * found.rate) > bound, "a rate that is 15 % higher does not hold"
    assert found.p99_ms <= 1e3 * bound
    assert found.problem is None


def test_two_processes_serve_more_than_twice_the_rate_of_one() -> None:
    server = {"kind": "server", "p99_ms": 4.0, "seconds": 20}
    one = measured(Session(a=[Process(0.001)]), Server(**server))["a"]["server"]
    session = Session(a=[Process(0.001), Process(0.001)])
    two = measured(session, Server(**server, instances=2))["a"]["server"]
    assert two.rate > 2 * one.rate, "they share a queue"


def test_arrivals_are_the_same_for_all_and_each_time() -> None:
    made = Session(a=[Process(0.001)], b=[Process(0.001)])
    first = measured(made, Server(kind="server", p99_ms=4.0))
    assert first["a"]["server"].rate == first["b"]["server"].rate
    again = measured(Session(a=[Process(0.001)]), Server(kind="server", p99_ms=4.0))
    assert again["a"]["server"].rate == first["a"]["server"].rate


def test_a_rate_that_cannot_be_served_is_answered_with_a_sentence() -> None:
    found = measured(Session(a=[Process(0.01)]), Server(kind="server", p99_ms=5))["a"]["server"]
    assert found.rate is None
    assert found.problem == (
        "no rate holds a p99 of 5 ms: half of the calls take longer than 10 ms without any waiting"
    )
    near = measured(
        Session(a=[Process(0.001)]), Server(kind="server", p99_ms=1.0001, seconds=30)
    )["a"]["server"]  # fmt: skip
    assert near.rate is None
    assert (found.in_short, near.in_short) == ("too slow", "no rate holds")
    assert "queries/s on holds a p99 of 1.0001 ms" in near.problem


def test_a_launch_in_which_nothing_holds_is_no_reason_to_say_that_nothing_does() -> None:
    class Worse(Process):
        """Slow in its second launch."""

        launches = 0

        def prepare(self, batches: Any) -> float:
            self.launches += 1
            self.service = 0.01 if self.launches == 2 else 0.001
            return self.service

    server = Server(kind="server", p99_ms=5, seconds=60)
    found = measured(Session(a=[Worse(0.001)]), server, launches=3)["a"]["server"]
    assert found.problem is None
    assert found.rate > 100
    assert found.rate_low == 0, "in one launch nothing held"


def test_one_that_is_too_slow_for_the_time_says_how_much_it_needs() -> None:
    session = Session(a=[Process(0.1)])
    found = measured(session, Server(kind="server", p99_ms=500, seconds=10))["a"]["server"]
    assert found.rate is None
    assert found.problem.startswith("too few calls: 662 queries take so long")
    assert found.in_short == "too few calls"
    assert session.made["a"][0].tries == []


def test_what_fails_beside_other_work_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS", 1)
    session = Session(a=[Process(0.001, disturbed=(9.0, 0.0))])
    found = measured(session, Server(kind="server", p99_ms=6.0), launches=1)["a"]["server"]
    assert found.rate == pytest.approx(500)
    assert session.others == OtherLoad(slices=1, repeated=1, disturbed=0)


def test_one_that_dies_leaves_and_the_others_go_on() -> None:
    class Dying(Process):
        def prepare(self, batches: Any) -> float:
            raise StepCrashed("it died")

    session = Session(a=[Dying(0.001)], b=[Process(0.001)])
    found = measured(
        session, Offline(kind="offline"), Server(kind="server", p99_ms=4.0)
    )  # fmt: skip
    assert set(found) == {"b"}
    assert set(found["b"]) == {"offline", "server"}
