"""A compiled model in a process of its own.

Runtimes disturb each other when they share a process (idle thread pools spin), and a runtime may
crash. So each artifact is loaded by a child that holds nothing else; the parent tells it to
predict or to time calls, can stop it so that it takes no processor time while others are measured,
and can name the signal that it died of.

The child is this module, run with `python -m`; it imports numpy and the one runtime.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ..recipe.errors import HoneError, StepCrashed, StepFailed, StepTimeout
from ..recipe.library_messages import telling

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Runner = Callable[[Arrays], Array]

#: A slice of timing makes at least this many calls, after one that is not counted.
_MIN_CALLS = 2


class RuntimeProcess:
    """The parent's side.

    Args:
        loader: Import path `module:function` of `load(folder, options) -> runner`.
        folder: The artifact's files.
        options: What the loader takes (`threads`, ...), plain data.
        timeout: Longest wait for an answer (s).
        python: The interpreter of another environment, and what its processes need in theirs.
    """

    def __init__(
        self,
        loader: str,
        folder: Path,
        options: dict[str, Any],
        timeout: float = 600,
        python: tuple[str, dict[str, str]] | None = None,
    ) -> None:
        self.timeout = timeout
        interpreter, variables = python or (sys.executable, dict(os.environ))
        ours, theirs = socket.socketpair()
        threads = str(options.get("threads", 1))
        environment = {
            **variables,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONWARNINGS": "ignore",
        }
        with theirs:
            self.process = subprocess.Popen(
                [interpreter, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
            )
        self._connection = Connection(ours.detach())
        self._send(("load", loader, str(folder), options))

    def __enter__(self) -> RuntimeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_loaded(self) -> None:
        """Wait until the artifact is loaded.

        Raises:
            StepFailed: The runtime refuses it.
            StepCrashed: The child died; with the signal.
        """
        self._answer()

    def predict(self, inputs: Arrays) -> Array:
        """The main output (N, ...) for inputs (N, ...) by name."""
        self._send(("predict", inputs))
        return np.asarray(self._answer())

    def prepare(self, batches: list[Arrays]) -> None:
        """Hand over the batches that `time_calls` goes through in turn."""
        self._send(("prepare", batches))
        self._answer()

    def time_calls(self, seconds: float) -> list[float]:
        """Call for at least so long and give the duration of each call (s)."""
        self._send(("time", seconds))
        found: list[float] = self._answer()
        return found

    def peak_memory(self) -> int:
        """Largest resident memory of the process so far (bytes)."""
        self._send(("memory",))
        return int(self._answer())

    def stop(self) -> None:
        """Take all processor time from it, until `resume`."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the child, whatever state it is in."""
        self._connection.close()
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self._connection.send(message)
        except (BrokenPipeError, ConnectionResetError, OSError):
            raise self._died() from None

    def _answer(self) -> Any:
        try:
            if not self._connection.poll(self.timeout):
                raise StepTimeout(f"the runtime did not answer within {self.timeout:g} s")
            said, value = self._connection.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            raise self._died() from None
        if said == "error":
            raise HoneError.from_dict(value)
        return value

    def _died(self) -> StepCrashed:
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            return StepCrashed("the runtime's process closed its connection")
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return StepCrashed(f"the runtime's process died of {name}{hint}")
        last = b""
        if self.process.stderr is not None:
            last = self.process.stderr.read()[-2000:].strip().rpartition(b"\n")[2]
        detail = f": {last.decode(errors='replace')}" if last else ""
        return StepCrashed(f"the runtime's process ended with code {code}{detail}")


def main(descriptor: int) -> None:
    """The child's side: answer until the parent goes."""
    connection = Connection(descriptor)
    runner: Runner | None = None
    batches: list[Arrays] = []
    while True:
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        answer: Any = None
        try:
            match message:
                case ("load", loader, folder, options):
                    module, _, name = loader.partition(":")
                    load = getattr(importlib.import_module(module), name)
                    runner = load(Path(folder), options)
                case ("predict", inputs):
                    answer = np.asarray(_loaded(runner)(inputs))
                case ("prepare", given):
                    batches = given
                    _loaded(runner)(batches[0])
                case ("time", seconds):
                    answer = _time_calls(_loaded(runner), batches, seconds)
                case ("memory",):
                    answer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        except HoneError as error:
            connection.send(("error", error.to_dict()))
        except Exception as error:
            failed = StepFailed(f"the runtime raised {type(error).__name__}: {telling(error)}")
            connection.send(("error", failed.to_dict()))
        else:
            connection.send(("ok", answer))


def _loaded(runner: Runner | None) -> Runner:
    if runner is None:
        raise StepFailed("the artifact was not loaded")
    return runner


def _time_calls(runner: Runner, batches: list[Arrays], seconds: float) -> list[float]:
    runner(batches[-1])  # wakes caches and threads after a pause; not counted
    durations: list[float] = []
    clock = time.perf_counter
    end = clock() + seconds
    while len(durations) < _MIN_CALLS or clock() < end:
        batch = batches[len(durations) % len(batches)]
        started = clock()
        runner(batch)
        durations.append(clock() - started)
    return durations


if __name__ == "__main__":
    main(int(sys.argv[1]))
