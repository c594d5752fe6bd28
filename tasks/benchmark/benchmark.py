"""Benchmark: all candidates of a run in one session, each alone while it is timed.

Every candidate has its own process. All are loaded, and all but the one being timed are stopped by
a signal, so that nothing spins beside it. Each round times baseline and candidates in a new random
order, so that a slow minute of the machine affects all of them. All processes are relaunched
several times, because memory placement makes a process faster or slower by one to three percent. A
lock keeps two measurements on one machine apart. What others take from the process while it is
timed is watched: a disturbed slice is timed again, and what stays disturbed is counted and told.

The processes are not pinned to processors: a runtime's helper threads would then wait for its own,
and its time is to be what it takes where it serves.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...ray_workers.machine_lock import alone
from ...ray_workers.model.axes import read_batches
from ...ray_workers.model.onnx_files import load_inputs
from ...ray_workers.runtime_process import RuntimeProcess, interpreter_for
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import HoneError
from ...runtimes.home import hone_home
from ...runtimes.predict import Arrays, LoadOptions
from ..specs.benchmark import (
    BASELINE,
    BenchmarkFacts,
    BenchmarkSpec,
    Failure,
    OtherLoad,
    Timing,
)
from .statistics import latency, ratio, round_medians

_SLICE = 0.05  # s of a candidate's timing in a round
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 15  # of a launch
#: A slice in which the process waited for a processor for more than this share is disturbed.
_DISTURBED = 0.05
#: A disturbed slice is timed again at most so often.
_AGAIN = 2


def benchmark(work: Workspace[BenchmarkSpec]) -> Result:
    """Time the candidates against the baseline.

    Inputs: `weights`, `samples` (real inputs), each candidate under its name, and today's champion
    as `champion` if the recipe compares with it.

    Raises:
        HoneError: The baseline itself can't run. A candidate that fails is named in the facts.
    """
    spec = work.spec
    samples = load_inputs(work.inputs["samples"])
    model = {"model": spec.model.model_dump(mode="json")}
    eager = work.loader_options(spec.threads, model)
    entrants = []
    if spec.baseline is not None:
        entrants.append(Entrant(BASELINE, spec.baseline, work.inputs["weights"], eager))
    for entry in (*spec.candidates, *([spec.champion] if spec.champion else [])):
        folder = work.inputs[entry.name]
        python = interpreter_for(entry.environment)
        options = work.loader_options(spec.threads, entry.options)
        entrants.append(Entrant(entry.name, entry.loader, folder, options, python))

    def progress(share: float) -> None:
        work.progress(int(100 * share), 100)

    folder = work.inputs["samples"]
    batches = {
        size: read_batches(folder, size) or batches_of(samples, size) for size in spec.batch_sizes
    }
    with alone(work.note, hone_home()):
        timings = run_session(entrants, batches, spec.seconds, spec.launches, progress)
    if BASELINE in timings.failed:
        raise timings.failed[BASELINE]
    beside = timings.calls.get(BASELINE, {})
    return Result(
        facts=BenchmarkFacts(
            measured={
                name: {
                    str(size): timing(beside.get(size), launches, size)
                    for size, launches in by_size.items()
                }
                for name, by_size in timings.calls.items()
            },
            memory=timings.memory,
            failed={n: Failure(**e.to_dict()) for n, e in timings.failed.items()},
            processor=spec.processor,
            others=timings.others,
        ),
        notes=[told] if (told := timings.others.told()) else [],
    )


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


@dataclass
class Timings:
    """Results of a session.

    Attributes:
        calls: Durations of calls (s), by name and batch size, in launches of rounds.
        memory: Peak resident memory of each (bytes).
        failed: Errors of the others.
        others: What other work on the machine did to the measurement.
    """

    calls: dict[str, dict[int, list[list[list[float]]]]]
    memory: dict[str, int]
    failed: dict[str, HoneError]
    others: OtherLoad


def run_session(
    entrants: list[Entrant],
    batches: dict[int, list[Arrays]],
    seconds: float,
    launches: int = 4,
    progress: Callable[[float], None] = lambda _: None,
) -> Timings:
    """Time all entrants against each other.

    Args:
        entrants: What to time; one that fails is left out from then on.
        batches: Inputs to cycle through, by batch size.
        seconds: Time for each entrant and batch size, over all launches.
        launches: How often all processes are started.
        progress: Called with the share that is done.
    """
    calls: dict[str, dict[int, list[list[list[float]]]]] = {
        entrant.name: {size: [] for size in batches} for entrant in entrants
    }
    memory: dict[str, int] = {}
    failed: dict[str, HoneError] = {}
    others = OtherLoad()
    shuffled = random.Random(0)  # noqa: S311 (an order, not a secret)
    for launch in range(launches):
        with contextlib.ExitStack() as stack:
            session = TimingSession(stack, shuffled)
            for entrant in entrants:
                if entrant.name not in failed:
                    session.add(entrant)
            session.load()
            for index, (size, given) in enumerate(batches.items()):
                for name, rounds in session.time(given, seconds / launches).items():
                    calls[name][size].append(rounds)
                progress((launch + (index + 1) / len(batches)) / launches)
            for name, peak in session.memory().items():
                memory[name] = max(peak, memory.get(name, 0))
            failed |= session.failed
            others += session.others
    return Timings({n: c for n, c in calls.items() if n not in failed}, memory, failed, others)


class TimingSession:
    """The processes of one launch.

    Attributes:
        running: Those that still answer.
        failed: Errors of the others.
        others: What other work on the machine did to the measurement so far.
    """

    def __init__(self, stack: contextlib.ExitStack, shuffled: random.Random) -> None:
        self._stack = stack
        self._shuffled = shuffled
        self.others = OtherLoad()
        self.running: dict[str, RuntimeProcess] = {}
        self.failed: dict[str, HoneError] = {}

    def add(self, entrant: Entrant) -> None:
        """Start a process that loads an artifact; `load` waits for it."""
        process = RuntimeProcess(
            entrant.loader, entrant.folder, entrant.options, python=entrant.python
        )
        self.running[entrant.name] = self._stack.enter_context(process)

    def load(self) -> None:
        """Wait until all are loaded, and pause them."""
        for name in list(self.running):
            with self._failing(name):
                self.running[name].wait_loaded()
                self.running[name].stop()

    def time(self, batches: list[Arrays], seconds: float) -> dict[str, list[list[float]]]:
        """Durations of calls (s), by name and round.

        Args:
            batches: Inputs to cycle through.
            seconds: Time for each entrant.
        """
        count = min(_MOST_ROUNDS, max(_FEWEST_ROUNDS, round(seconds / _SLICE)))
        rounds: dict[str, list[list[float]]] = {name: [] for name in self.running}
        for name in list(self.running):
            with self._failing(name), self._awake(name) as process:
                process.prepare(batches)
                process.time_calls(seconds / count)  # warms up; not counted
        for _ in range(count):
            names = list(self.running)
            self._shuffled.shuffle(names)
            for name in names:
                with self._failing(name), self._awake(name) as process:
                    rounds[name].append(self._least_disturbed(process, seconds / count))
        return {name: found for name, found in rounds.items() if name in self.running}

    def _least_disturbed(self, process: RuntimeProcess, seconds: float) -> list[float]:
        """Durations of calls (s), of the least disturbed of a few tries."""
        best, repeated = process.time_calls(seconds), 0
        while best.disturbed > _DISTURBED and repeated < _AGAIN:
            repeated += 1
            best = min(best, process.time_calls(seconds), key=lambda timed: timed.disturbed)
        self.others += OtherLoad(
            slices=1, repeated=repeated, disturbed=int(best.disturbed > _DISTURBED)
        )
        return best.durations

    def memory(self) -> dict[str, int]:
        """Largest resident memory of each process (bytes)."""
        found = {}
        for name in list(self.running):
            with self._failing(name), self._awake(name) as process:
                found[name] = process.peak_memory()
        return found

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
            self.running.pop(name).close()


def batches_of(samples: Arrays, size: int) -> list[Arrays]:
    """Batches of one size of real inputs, repeated if there are too few."""
    count = len(next(iter(samples.values())))
    starts = range(0, max(1, count - size + 1), size) if size <= count else [0]
    rows = [(np.arange(size) + start) % count for start in starts]
    return [
        {name: np.ascontiguousarray(value[chosen]) for name, value in samples.items()}
        for chosen in rows
    ]


def timing(
    baseline: list[list[list[float]]] | None, launches: list[list[list[float]]], size: int
) -> Timing:
    """Statistics of what was timed at a batch size.

    Args:
        baseline: Durations of calls (s) of what it is compared with, in launches of rounds; None if
            it is compared with nothing.
        launches: Durations of its own calls (s), of the same rounds.
        size: The batch size.
    """
    medians = [round_medians(rounds) for rounds in launches]
    value, low, high = None, None, None
    if baseline is not None:
        value, low, high = ratio([round_medians(rounds) for rounds in baseline], medians)
    return Timing(
        **latency([r for rounds in launches for r in rounds], size),
        ratio=value,
        ratio_low=low,
        ratio_high=high,
        rounds=medians,
    )
