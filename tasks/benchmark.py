"""Benchmark: all candidates of a run in one session, each alone while it is timed.

Every candidate has a process of its own. They are all loaded, and all but the one that is timed
are stopped by signal, so nothing spins beside it. Rounds go through baseline and candidates in an
order drawn anew, so that a slow minute of the machine falls on all. A lock keeps two
measurements on one machine apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..ray_workers.artifacts import Store
from ..ray_workers.runtime_process import Arrays, RuntimeProcess
from ..ray_workers.workspace import Result, Workspace
from ..recipe.errors import HoneError
from .graph import load_inputs
from .timing import latency, ratio, round_medians

BASELINE = "baseline"
_SLICE = 0.05  # s of a candidate's timing in a round
_FEWEST_ROUNDS, _MOST_ROUNDS = 11, 60


def benchmark(work: Workspace) -> Result:
    """Spec: candidates (name, loader), model, batch_sizes, threads, seconds, processor.

    Inputs: `weights`, `samples` (real inputs), and each candidate under its name.

    Raises:
        HoneError: The baseline itself can't run. A candidate that fails is named in the facts.
    """
    spec = work.spec
    samples = load_inputs(work.inputs["samples"])
    code = None
    if work.code is not None:
        code = str(Store(work.store_url, Path(work.cache_url)).fetch(work.code))
    threads = {"threads": spec["threads"]}
    eager = {**threads, "model": spec["model"], "code": code}
    eager["allowed"] = work.allowed.model_dump(mode="json")
    with _alone(work), contextlib.ExitStack() as stack:
        session = Session(stack)
        session.add(BASELINE, "prefect_hone.tasks.eager:load", work.inputs["weights"], eager)
        for entry in spec["candidates"]:
            session.add(entry["name"], entry["loader"], work.inputs[entry["name"]], threads)
        session.load()
        if BASELINE in session.failed:
            raise session.failed[BASELINE]
        measured: dict[str, dict[str, Any]] = {name: {} for name in session.running}
        total = len(spec["batch_sizes"])
        for index, size in enumerate(spec["batch_sizes"]):

            def progress(share: float, index: int = index, size: int = size) -> None:
                done = int(100 * (index + share) / total)
                work.report(
                    {"kind": "progress", "done": done, "total": 100, "text": f"batch {size}"}
                )

            timed = session.time(_batches_of(samples, size), spec["seconds"], progress)
            for name, rounds in timed.items():
                measured[name][str(size)] = _said(timed[BASELINE], rounds, size)
        memory = session.memory()
    if BASELINE in session.failed:
        raise session.failed[BASELINE]
    return Result(
        facts={
            "measured": {n: m for n, m in measured.items() if n not in session.failed},
            "memory": memory,
            "failed": {n: e.to_dict() for n, e in session.failed.items()},
            "processor": spec["processor"],
        }
    )


class Session:
    """The processes of one measurement.

    Attributes:
        running: Those that still answer.
        failed: What the others died of.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.running: dict[str, RuntimeProcess] = {}
        self.failed: dict[str, HoneError] = {}

    def add(self, name: str, loader: str, folder: Path, options: dict[str, Any]) -> None:
        """Start a process that loads an artifact; `load` waits for it."""
        process = self._stack.enter_context(RuntimeProcess(loader, folder, options))
        self.running[name] = process

    def load(self) -> None:
        """Wait until all are loaded, and stop them."""
        for name in list(self.running):
            with self._failing(name):
                self.running[name].wait_loaded()
                self.running[name].stop()

    def time(self, batches: list[Arrays], seconds: float, progress: Any) -> dict[str, Any]:
        """Durations of calls (s), by name and round.

        Args:
            batches: Inputs that are gone through in turn.
            seconds: Time for each candidate.
            progress: Told the share that is done.
        """
        count = min(_MOST_ROUNDS, max(_FEWEST_ROUNDS, round(seconds / _SLICE)))
        rounds: dict[str, list[list[float]]] = {name: [] for name in self.running}
        for name in list(self.running):
            with self._failing(name), self._awake(name) as process:
                process.prepare(batches)
                process.time_calls(seconds / count)  # warms up; not counted
        shuffled = random.Random(0)  # noqa: S311 (an order, not a secret)
        for index in range(count):
            names = list(self.running)
            shuffled.shuffle(names)
            for name in names:
                with self._failing(name), self._awake(name) as process:
                    rounds[name].append(process.time_calls(seconds / count))
            progress((index + 1) / count)
        return {name: found for name, found in rounds.items() if name in self.running}

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
        """A candidate that fails leaves the session; the others go on."""
        try:
            yield
        except HoneError as error:
            self.failed[name] = error
            self.running.pop(name).close()


@contextlib.contextmanager
def _alone(work: Workspace) -> Iterator[None]:
    """Hold this machine's measuring lock."""
    path = Path(tempfile.gettempdir()) / "hone-benchmark.lock"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    with contextlib.suppress(OSError):
        os.chmod(path, 0o666)  # noqa: S103 (another user's run must be able to wait for it too)
    told = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    text = "another measurement is going on on this machine; waits for it"
                    work.report({"kind": "note", "text": text})
                    told = True
                time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _batches_of(samples: Arrays, size: int) -> list[Arrays]:
    """Batches of one size of real inputs; they repeat where there are fewer than it takes."""
    count = len(next(iter(samples.values())))
    starts = range(0, max(1, count - size + 1), size) if size <= count else [0]
    rows = [(np.arange(size) + start) % count for start in starts]
    return [
        {name: np.ascontiguousarray(value[chosen]) for name, value in samples.items()}
        for chosen in rows
    ]


def _said(baseline: Any, rounds: Any, size: int) -> dict[str, Any]:
    medians = round_medians(rounds)
    value, low, high = ratio(round_medians(baseline), medians)
    said: dict[str, Any] = latency(rounds, size)
    return said | {"ratio": value, "ratio_low": low, "ratio_high": high, "rounds": medians}
