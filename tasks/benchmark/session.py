"""A session: processes with compiled models, each alone while it is timed.

Every entrant has its own process. All are loaded, and all but the one being timed are stopped by a
signal, so that nothing spins beside it. Each round times all of them in a new random order, so that
a slow minute of the machine affects all of them. All processes are relaunched several times, since
memory placement makes a process faster or slower by one to three percent. What others take from the
process while it is timed is watched: a disturbed slice is timed again, and what stays disturbed is
counted and told.

The processes are not pinned to processors: a runtime's helper threads would then wait for its own,
and its time is to be what it takes where it serves.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...ray_workers.runtime_process import RuntimeProcess, TimedCalls
from ...recipe.errors import HoneError
from ...runtimes.predict import Arrays, LoadOptions
from ..specs.benchmark import BASELINE, OtherLoad, ScenarioResult
from .counters import EnergyMeter, gpu_memory

if TYPE_CHECKING:
    from .scenarios import Scenarios

#: Durations of calls (s), in launches of rounds.
Calls = list[list[list[float]]]

_SLICE = 0.05  # s of an entrant's timing in a round
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 15  # of a launch
#: What slows a machine for a moment slows those entrants alike that are timed shortly after each
#: other. So slices are as short as the slowest entrant's calls allow: this (s), and so many calls.
_SHORT_SLICE, _CALLS_IN_SLICE = 0.01, 5
_MOST_SHORT_ROUNDS = 100
#: A slice in which the process waited for a processor for more than this share is disturbed.
DISTURBED = 0.05
#: A disturbed slice is timed again at most so often.
AGAIN = 2


@dataclass(frozen=True)
class Entrant:
    """An artifact to time: its name, its loader, folder, options and environment (None: this
    one).
    """

    name: str
    loader: str
    folder: Path
    options: LoadOptions
    python: tuple[str, dict[str, str]] | None = None


@dataclass(frozen=True)
class Until:
    """When a session that may have more launches ends.

    Attributes:
        fewest: Launches that it has in any case.
        most: Launches that it has at most.
        settled: Whether the durations so far are enough, by name and batch size.
    """

    fewest: int
    most: int
    settled: Callable[[dict[str, dict[int, Calls]]], bool]


@dataclass
class Timings:
    """Results of a session.

    Attributes:
        calls: Durations of calls (s), by name and batch size.
        joules: Energy that the machine took for a call (J), by name and batch size; empty without
            a counter.
        memory: Peak resident memory of each (bytes).
        gpu_memory: Memory on GPUs (bytes) of those of which it is told.
        cold: Of each that was started alone: from its start to the loaded artifact, and to the
            first answer (s).
        scenarios: What each reached, by name and kind of scenario.
        failed: Errors of the others.
        others: What other work on the machine did to the measurement.
    """

    calls: dict[str, dict[int, Calls]]
    joules: dict[str, dict[int, float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    gpu_memory: dict[str, int] = field(default_factory=dict)
    cold: dict[str, tuple[float, float]] = field(default_factory=dict)
    scenarios: dict[str, dict[str, ScenarioResult]] = field(default_factory=dict)
    failed: dict[str, HoneError] = field(default_factory=dict)
    others: OtherLoad = field(default_factory=OtherLoad)

    @property
    def able(self) -> dict[str, dict[int, Calls]]:
        """Durations of those that did not fail."""
        return {name: calls for name, calls in self.calls.items() if name not in self.failed}


def run_session(
    entrants: list[Entrant],
    batches: dict[int, list[Arrays]],
    seconds: float,
    launches: int = 4,
    progress: Callable[[float], None] = lambda _: None,
    cold: bool = False,
    scenarios: Scenarios | None = None,
    until: Until | None = None,
) -> Timings:
    """Time all entrants against each other.

    Args:
        entrants: What to time; one that fails is left out from then on.
        batches: Inputs to cycle through, by batch size.
        seconds: Time for each entrant and batch size, over so many launches.
        launches: How often all processes are started.
        progress: Called with the share that is done.
        cold: Whether to start the processes of the last launch one by one, to time their start.
        scenarios: What else to measure.
        until: How many launches there are instead; each takes as long.
    """
    most = launches if until is None else until.most
    found = Timings({entrant.name: {size: [] for size in batches} for entrant in entrants})
    energy: dict[tuple[str, int], Energy] = {}
    shuffled = random.Random(0)  # noqa: S311 (an order, not a secret)
    meter = EnergyMeter()
    for launch in range(most):
        if until is not None and launch >= until.fewest and until.settled(found.able):
            break
        with contextlib.ExitStack() as stack:
            session = TimingSession(stack, shuffled, meter)
            able = [entrant for entrant in entrants if entrant.name not in found.failed]
            session.start(able, one_by_one=cold and launch == launches - 1)
            for index, (size, given) in enumerate(batches.items()):
                for name, rounds in session.time(given, seconds / launches).items():
                    found.calls[name][size].append(rounds)
                    energy[name, size] = energy.get((name, size), Energy()) + session.energy[name]
                progress((launch + (index + 1) / len(batches)) / most)
            session.read_memory(found)
            if scenarios is not None:
                session.start_more(able, scenarios.instances)
                scenarios.measure(session, launch)
            found.failed |= session.failed
            found.others += session.others
            found.cold |= session.cold
    found.calls = found.able
    if scenarios is not None:
        found.scenarios = scenarios.results(found.failed)
    for name in found.calls:
        each = {size: energy[name, size].of_a_call for size in batches}
        found.joules[name] = {size: joules for size, joules in each.items() if joules is not None}
    return found


def rounds_in(seconds: float, slice_seconds: float | None = None) -> int:
    """How many rounds a launch has in so many seconds for each entrant."""
    wanted = round(seconds / (slice_seconds or _SLICE))
    return min(_MOST_ROUNDS, max(_FEWEST_ROUNDS, wanted))


def short_rounds_in(seconds: float, call: float) -> int:
    """The same in slices that are as short as calls allow.

    Args:
        seconds: For each entrant.
        call: How long the slowest entrant's calls take (s).
    """
    wanted = round(seconds / max(_SHORT_SLICE, _CALLS_IN_SLICE * call))
    return max(rounds_in(seconds), min(_MOST_SHORT_ROUNDS, wanted))


@dataclass(frozen=True)
class Energy:
    """Energy that was taken while calls were timed.

    Attributes:
        joules: The energy (J).
        calls: The calls in that time, with those that are not counted (a count).
    """

    joules: float = 0.0
    calls: int = 0

    def __add__(self, other: Energy) -> Energy:
        return Energy(self.joules + other.joules, self.calls + other.calls)

    @property
    def of_a_call(self) -> float | None:
        """(J); None without a counter."""
        return self.joules / self.calls if self.calls else None


class TimingSession:
    """The processes of one launch.

    Args:
        stack: Ends them.
        shuffled: Orders the rounds.
        meter: Reads energy; None: nothing does.

    Attributes:
        running: Those that still answer.
        failed: Errors of the others.
        others: What other work on the machine did to the measurement so far.
        cold: Of those that were started one by one: time to the loaded artifact, and to the first
            answer (s).
        energy: Of each in the last call of `time`.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        shuffled: random.Random,
        meter: EnergyMeter | None = None,
    ) -> None:
        self._stack = stack
        self._shuffled = shuffled
        self._meter = meter if meter is not None and meter.works else None
        self.others = OtherLoad()
        self.running: dict[str, RuntimeProcess] = {}
        self.failed: dict[str, HoneError] = {}
        self.cold: dict[str, tuple[float, float]] = {}
        self.energy: dict[str, Energy] = {}
        self._loads: dict[str, float] = {}
        self._more: dict[str, list[RuntimeProcess]] = {}

    def start(self, entrants: list[Entrant], *, one_by_one: bool = False) -> None:
        """Start processes that load artifacts, wait until all are loaded, and pause them.

        Args:
            entrants: The artifacts.
            one_by_one: Whether to start each when the one before is loaded, and to time that.
        """
        for entrant in entrants:
            self._add(entrant)
            if one_by_one:
                self._load(entrant.name)
                if entrant.name in self.running:
                    self._loads[entrant.name] = self.running[entrant.name].seconds_since_start
        if not one_by_one:
            for entrant in entrants:
                self._load(entrant.name)

    def start_more(self, entrants: list[Entrant], instances: int) -> None:
        """Start further processes, until there are so many of each entrant but the baseline."""
        for entrant in entrants:
            if entrant.name in self.running and entrant.name != BASELINE:
                self._more[entrant.name] = [self._process(entrant) for _ in range(1, instances)]
        for name in list(self._more):
            with self._failing(name):
                for process in self._more[name]:
                    process.wait_loaded()
                    process.stop()

    def processes(self, name: str, instances: int) -> list[RuntimeProcess]:
        """So many processes of an entrant."""
        return [self.running[name], *self._more.get(name, [])[: instances - 1]]

    @contextlib.contextmanager
    def together(self, name: str, instances: int) -> Iterator[list[RuntimeProcess]]:
        """Wake so many processes of an entrant; if one fails, the entrant leaves the session."""
        processes = self.processes(name, instances)
        with self._failing(name):
            for process in processes:
                process.resume()
            try:
                yield processes
            finally:
                for process in processes:
                    process.stop()

    def shuffle(self, names: list[str]) -> list[str]:
        """Names in a new random order."""
        return self._shuffled.sample(names, len(names))

    def _add(self, entrant: Entrant) -> None:
        self.running[entrant.name] = self._process(entrant)

    def _process(self, entrant: Entrant) -> RuntimeProcess:
        process = RuntimeProcess(
            entrant.loader, entrant.folder, entrant.options, python=entrant.python
        )
        return self._stack.enter_context(process)

    def _load(self, name: str) -> None:
        with self._failing(name):
            self.running[name].wait_loaded()
            self.running[name].stop()

    def time(self, batches: list[Arrays], seconds: float) -> dict[str, list[list[float]]]:
        """Durations of calls (s), by name and round.

        Args:
            batches: Inputs to cycle through.
            seconds: Time for each entrant.
        """
        rounds: dict[str, list[list[float]]] = {name: [] for name in self.running}
        longest = 0.0  # call
        self.energy = dict.fromkeys(self.running, Energy())
        for name in list(self.running):
            with self._failing(name), self._awake(name) as process:
                first = process.prepare(batches)
                if name in self._loads and name not in self.cold:
                    self.cold[name] = (self._loads[name], self._loads[name] + first)
                warm = process.time_calls(seconds / rounds_in(seconds))  # not counted
                longest = max(longest, float(np.median(warm.durations)))
        count = short_rounds_in(seconds, longest)
        for _ in range(count):
            names = list(self.running)
            self._shuffled.shuffle(names)
            for name in names:
                with self._failing(name), self._awake(name) as process:
                    durations, energy = self._least_disturbed(process, seconds / count)
                    rounds[name].append(durations)
                    self.energy[name] += energy
        return {name: found for name, found in rounds.items() if name in self.running}

    def _least_disturbed(
        self, process: RuntimeProcess, seconds: float
    ) -> tuple[list[float], Energy]:
        """Durations of calls (s), of the least disturbed of a few tries, and their energy."""
        best, energy = self._metered(process, seconds)
        repeated = 0
        while best.disturbed > DISTURBED and repeated < AGAIN:
            repeated += 1
            other = self._metered(process, seconds)
            best, energy = min((best, energy), other, key=lambda timed: timed[0].disturbed)
        self.others += OtherLoad(
            slices=1, repeated=repeated, disturbed=int(best.disturbed > DISTURBED)
        )
        return best.durations, energy

    def _metered(self, process: RuntimeProcess, seconds: float) -> tuple[TimedCalls, Energy]:
        """Timed calls, and the energy of them and of the one before that is not counted."""
        before = None if self._meter is None else self._meter.joules()
        timed = process.time_calls(seconds)
        after = None if self._meter is None else self._meter.joules()
        if before is None or after is None:
            return timed, Energy()
        return timed, Energy(after - before, len(timed.durations) + 1)

    def read_memory(self, found: Timings) -> None:
        """Note the largest resident memory of each process, and its memory on GPUs."""
        for name in list(self.running):
            with self._failing(name), self._awake(name) as process:
                found.memory[name] = max(process.peak_memory(), found.memory.get(name, 0))
                if (held := gpu_memory(process.process.pid)) is not None:
                    found.gpu_memory[name] = max(held, found.gpu_memory.get(name, 0))

    @contextlib.contextmanager
    def _awake(self, name: str) -> Iterator[RuntimeProcess]:
        process = self.running[name]
        process.resume()
        try:
            yield process
        finally:
            process.stop()

    @contextlib.contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """A candidate that fails is removed from the session; the others continue."""
        try:
            yield
        except HoneError as error:
            self.failed[name] = error
            for process in (self.running.pop(name), *self._more.pop(name, [])):
                process.close()
