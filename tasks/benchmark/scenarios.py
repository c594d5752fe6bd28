"""The scenarios offline and server, within a session of the benchmark.

Offline: calls back to back, in one or more processes at once. Server: queries arrive as a Poisson
process; the highest rate that holds the bound is found by bisection between 0 and the rate at which
the processes would never be idle. A rate holds if so few queries are late that the 99th percentile
lies within the bound at 99 % confidence, which is LoadGen's rule for early stopping. Arrivals are
seeded, and the same for all candidates up to the rate.
"""

from __future__ import annotations

import functools
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...recipe.benchmark import Offline, Server
from ...runtimes.predict import Arrays
from ..specs.benchmark import BASELINE, OtherLoad, ScenarioResult
from .session import AGAIN, DISTURBED, TimingSession, rounds_in
from .statistics import ENOUGH_CALLS, ratio

#: Rounds of the offline scenario with several processes are longer: they don't end together (s).
_LONG_SLICE = 0.25
#: Until all processes of an entrant wait for the start (s).
_TO_START = 0.02
#: Steps of the bisection: the rate is known to 1/128 of the highest possible.
_STEPS = 7
#: Most queries of a try.
_MOST_QUERIES = 20_000
_LATE, _CONFIDENCE = 0.01, 0.99


@dataclass
class Scenarios:
    """Measures the scenarios of a session, launch by launch.

    Args:
        asked: The scenarios.
        batches: Inputs to cycle through, by batch size.
        offline_batch: Samples per call of the offline scenario.
        seconds: Time for each entrant in the offline scenario, over all launches.
        launches: How many there are.
    """

    asked: Sequence[Offline | Server]
    batches: Mapping[int, list[Arrays]]
    offline_batch: int
    seconds: float
    launches: int
    _offline: dict[str, _Offline] = field(default_factory=dict)
    _server: dict[str, _Search] = field(default_factory=dict)

    @property
    def instances(self) -> int:
        """The most processes of an entrant that work at once."""
        return max((scenario.instances for scenario in self.asked), default=1)

    def measure(self, session: TimingSession, launch: int) -> None:
        """Measure what the entrants of a session reach, all but the baseline.

        Args:
            session: With `instances` processes of each.
            launch: Which launch it is, from 0.
        """
        for scenario in self.asked:
            if isinstance(scenario, Offline):
                self._measure_offline(session, scenario)
                continue
            for name in session.shuffle(_able(session)):
                search = self._server.setdefault(name, _Search(scenario))
                due = scenario.seconds * (launch + 1) / self.launches
                with session.together(name, scenario.instances):
                    search.look(session, name, self.batches[1], due, launch)

    def results(self, failed: Mapping[str, object]) -> dict[str, dict[str, ScenarioResult]]:
        """What was measured, by name and kind of scenario, but of what failed."""
        found: dict[str, dict[str, ScenarioResult]] = {}
        kinds: tuple[tuple[str, Mapping[str, _Offline | _Search]], ...] = (
            ("offline", self._offline),
            ("server", self._server),
        )
        for kind, measured in kinds:
            for name, one in measured.items():
                if name not in failed:
                    found.setdefault(name, {})[kind] = one.result()
        return found

    def _measure_offline(self, session: TimingSession, scenario: Offline) -> None:
        shortest = _LONG_SLICE if scenario.instances > 1 else None
        seconds = self.seconds / self.launches
        rounds = rounds_in(seconds, shortest)
        each = max(seconds / rounds, shortest or 0.0)
        batches = self.batches[self.offline_batch]
        made: dict[str, list[float]] = {}
        for name in _able(session):
            with session.together(name, scenario.instances) as processes:
                for process in processes:
                    process.prepare(batches)
                    process.time_calls(each)  # warms up; not counted
                made[name] = []
        for _ in range(rounds):
            for name in session.shuffle([n for n in _able(session) if n in made]):
                one = self._offline.setdefault(name, _Offline(scenario.instances))
                with session.together(name, scenario.instances):
                    took, calls = self._round(session, name, scenario.instances, each)
                    made[name].append(took)
                    one.calls += calls
        for name, launch in made.items():
            if name in session.running:
                self._offline[name].rounds.append(launch)

    def _round(
        self, session: TimingSession, name: str, instances: int, seconds: float
    ) -> tuple[float, int]:
        """Time for a sample with all processes at work (s), and the calls that it was measured by:
        of the least disturbed of a few tries.
        """
        best, repeated = math.inf, -1
        found = (0.0, 0)
        while best > DISTURBED and repeated < AGAIN:
            repeated += 1
            start = time.monotonic() + _TO_START * (instances > 1)
            processes = session.processes(name, instances)
            for process in processes:
                process.begin_calls(seconds, start)
            timed = [process.timed() for process in processes]
            disturbed = max(one.disturbed for one in timed)
            if disturbed < best:
                calls = sum(len(one.durations) for one in timed)
                rate = sum(len(one.durations) / sum(one.durations) for one in timed)
                best, found = disturbed, (1 / (rate * self.offline_batch), calls)
        session.others += OtherLoad(slices=1, repeated=repeated, disturbed=int(best > DISTURBED))
        return found


@dataclass
class _Offline:
    """What an entrant reached in the offline scenario.

    Attributes:
        instances: Processes at once.
        rounds: Time for a sample in each round (s), by launch.
        calls: That it was measured by (a count).
    """

    instances: int
    rounds: list[list[float]] = field(default_factory=list)
    calls: int = 0

    def result(self) -> ScenarioResult:
        return _with_interval(self.rounds, self.calls, self.instances)


@dataclass
class _Search:
    """The search for the highest rate of an entrant in the server scenario.

    Attributes:
        scenario: What must hold.
        rates: The rate that each search found (queries a second).
        p99: The 99th percentile at that rate (ms).
        calls: Queries that were answered (a count).
        spent: Time that it took so far (s).
        failed: Searches that found none (a count).
        problem: Why the last of them did not.
        in_short: The same in a word or two.
    """

    scenario: Server
    rates: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    calls: int = 0
    spent: float = 0.0
    failed: int = 0
    problem: str | None = None
    in_short: str | None = None

    def result(self) -> ScenarioResult:
        if self.failed >= len(self.rates):
            return ScenarioResult(
                instances=self.scenario.instances,
                calls=self.calls,
                problem=self.problem,
                in_short=self.in_short,
            )
        rounds = [[1 / rate] for rate in self.rates]
        found = _with_interval(rounds, self.calls, self.scenario.instances)
        if self.failed:  # in some launches nothing held
            found = found.model_copy(update={"rate_low": 0.0})
        return found.model_copy(update={"p99_ms": float(np.median(self.p99))})

    def look(
        self, session: TimingSession, name: str, batches: list[Arrays], due: float, launch: int
    ) -> None:
        """Search once, if there is time for it by now.

        Args:
            session: Of the launch, whose processes are awake.
            name: The entrant.
            batches: Inputs of one sample.
            due: Time that all searches up to this launch may take (s).
            launch: Which launch it is, from 0.
        """
        processes = session.processes(name, self.scenario.instances)
        for process in processes:
            process.prepare(batches)
            process.time_calls(0.02)  # warms up
        service = float(np.median(processes[0].time_calls(0.05).durations))
        bound = self.scenario.p99_ms / 1e3
        if service > bound:
            self.failed += 1
            self.in_short = "too slow"
            self.problem = (
                f"no rate holds a p99 of {self.scenario.p99_ms:g} ms: half of the calls take "
                f"longer than {1e3 * service:.3g} ms without any waiting"
            )
            return
        top = len(processes) / service
        needed = _STEPS * ENOUGH_CALLS[99] / top
        last = due >= self.scenario.seconds
        if self.spent + needed > due:
            if last and not self.rates:
                self.failed += 1
                self.in_short = "too few calls"
                self.problem = (
                    f"too few calls: {ENOUGH_CALLS[99]} queries take so long that the search needs "
                    f"about {2 * needed:.0f} s (give the scenario more seconds)"
                )
            return
        self._bisect(session, name, top, due, launch)

    def _bisect(
        self, session: TimingSession, name: str, top: float, due: float, launch: int
    ) -> None:
        low, high, p99 = 0.0, top, 0.0
        each = (due - self.spent) / _STEPS
        for step in range(_STEPS):
            rate = (low + high) / 2
            least = ENOUGH_CALLS[99] / rate
            if low > 0 and self.spent + least > due:
                break
            if low == 0 and least > max(4 * each, self.scenario.seconds):
                break
            count = int(min(_MOST_QUERIES, max(ENOUGH_CALLS[99], rate * each)))
            latencies = self._try(session, name, rate, count, [launch, step])
            if latencies is None:
                high = rate
            else:
                low, p99 = rate, 1e3 * float(np.percentile(latencies, 99))
        if low == 0:
            self.failed += 1
            self.in_short = "no rate holds"
            self.problem = (
                f"no rate from {high:.3g} queries/s on holds a p99 of {self.scenario.p99_ms:g} ms"
            )
            return
        self.rates.append(low)
        self.p99.append(p99)

    def _try(
        self, session: TimingSession, name: str, rate: float, count: int, place: list[int]
    ) -> list[float] | None:
        """Latencies at a rate (s); None if it does not hold. A failure while other work took
        processor time is tried again.
        """
        began = time.monotonic()
        gaps = np.random.default_rng([self.scenario.seed, *place]).standard_exponential(count)
        arrivals = np.cumsum(gaps) / rate
        processes = session.processes(name, self.scenario.instances)
        bound, allowed = self.scenario.p99_ms / 1e3, late_allowed(count)
        repeated, disturbed, latencies = -1, math.inf, list[float]()
        held = False
        while not held and disturbed > DISTURBED and repeated < AGAIN:
            repeated += 1
            with tempfile.TemporaryDirectory() as folder:
                numbers = Path(folder) / "numbers"
                start = time.monotonic() + _TO_START
                for process in processes:
                    process.begin_queries(arrivals, start, numbers, bound, allowed)
                timed = [process.timed() for process in processes]
            latencies = [latency for one in timed for latency in one.durations]
            disturbed = max(one.disturbed for one in timed)
            late = sum(latency > bound for latency in latencies)
            held = len(latencies) == count and late <= allowed
            self.calls += len(latencies)
        session.others += OtherLoad(
            slices=1, repeated=repeated, disturbed=int(not held and disturbed > DISTURBED)
        )
        self.spent += time.monotonic() - began
        return latencies if held else None


def _able(session: TimingSession) -> list[str]:
    return [name for name in session.running if name != BASELINE]


def _with_interval(rounds: list[list[float]], calls: int, instances: int) -> ScenarioResult:
    ones = [[1.0] * len(launch) for launch in rounds]
    value, low, high = ratio(ones, rounds)
    known = len(rounds) > 1 or len(rounds[0]) > 1
    return ScenarioResult(
        rate=value,
        rate_low=low if known else None,
        rate_high=high if known else None,
        calls=calls,
        instances=instances,
        rounds=rounds,
    )


@functools.cache
def late_allowed(count: int) -> int:
    """How many of so many queries may be late, for the 99th percentile to lie within the bound at
    99 % confidence.

    The largest number that so many queries have, or fewer, with a probability of at most 1 % if one
    in a hundred is late: LoadGen's rule for early stopping
    (https://github.com/mlcommons/inference/blob/master/loadgen/early_stopping.cc). -1: too few.
    """
    log_one, log_other = math.log(_LATE), math.log1p(-_LATE)
    total, late = 0.0, 0
    while True:
        ways = math.lgamma(count + 1) - math.lgamma(late + 1) - math.lgamma(count - late + 1)
        total += math.exp(ways + late * log_one + (count - late) * log_other)
        if total > 1 - _CONFIDENCE:
            return late - 1
        late += 1
