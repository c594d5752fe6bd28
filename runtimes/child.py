"""An artifact in a separate process, the child's side: open it, and answer until the parent exits.

Run with `python -P -m`; `child_process.py` is the parent's side. A request is a tuple of a name and
its arguments; an answer is ("ok", value) or ("error", the error as plain data).
"""

from __future__ import annotations

import contextlib
import importlib
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from .disturbance import Disturbance
from .errors import RuntimeFailed, as_plain_data
from .predict import Arrays, Outputs, Predict, main_of
from .queries import answer_queries, wait_until

#: A timing slice makes at least this many calls, after one that is not counted.
_MIN_CALLS = 2


def main(descriptor: int) -> None:
    """Answer on a socket until it is closed."""
    connection = Connection(descriptor)
    child = _Child()
    while True:
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer = child.answer(message)
        except Exception as error:
            connection.send(("error", as_plain_data(error)))
        else:
            connection.send(("ok", answer))


class _Child:
    def __init__(self) -> None:
        self._predict: Predict | None = None
        self._batches: list[Arrays] = []

    def answer(self, message: tuple[Any, ...]) -> Any:
        match message:
            case ("load", loader, folder, options):
                module, _, name = loader.partition(":")
                load = getattr(importlib.import_module(module), name)
                self._predict = load(Path(folder), options)
            case ("predict", inputs):
                return main_of(self._loaded()(inputs))
            case ("outputs", inputs):
                return _plain(self._loaded()(inputs))
            case ("prepare", batches):
                self._batches = batches
                return _first_call(self._loaded(), batches[0])
            case ("time", seconds, start):
                return _time_calls(self._loaded(), self._batches, seconds, start)
            case ("queries", *asked):
                return answer_queries(self._loaded(), self._batches, *asked)
            case ("memory",):
                return _peak_memory()
        return None

    def _loaded(self) -> Predict:
        if self._predict is None:
            raise RuntimeFailed("the artifact was not loaded")
        return self._predict


def _peak_memory() -> int:
    """Largest resident memory of this process (bytes).

    `ru_maxrss` of Linux counts what the parent had at the fork, too: hundreds of megabytes of a
    worker. The kernel's `VmHWM` begins with the program.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _first_call(predict: Predict, batch: Arrays) -> float:
    """Duration of a call (s)."""
    started = time.perf_counter()
    predict(batch)
    return time.perf_counter() - started


def _plain(outputs: Outputs) -> Outputs:
    if isinstance(outputs, dict):
        return {name: np.asarray(value) for name, value in outputs.items()}
    return np.asarray(outputs)


def _time_calls(
    predict: Predict, batches: list[Arrays], seconds: float, start: float
) -> tuple[list[float], float]:
    """Durations of calls (s), and the share of the time that was lost to others."""
    predict(batches[-1])  # wakes caches and threads after a pause; not counted
    wait_until(start)
    disturbance = Disturbance()
    durations: list[float] = []
    clock = time.perf_counter
    end = clock() + seconds
    vary = len({tuple(value.shape for value in batch.values()) for batch in batches}) > 1
    # Batches of different sizes take different times: each counts as often as the others.
    while len(durations) < _MIN_CALLS or clock() < end or (vary and len(durations) % len(batches)):
        batch = batches[len(durations) % len(batches)]
        started = clock()
        predict(batch)
        durations.append(clock() - started)
    return durations, disturbance.share()


if __name__ == "__main__":
    main(int(sys.argv[1]))
