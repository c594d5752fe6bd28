"""A compiled model in a separate process, as Hone uses it: it predicts, it can be timed and paused
while others are measured, and its errors are Hone's.

Both sides of the process are in `runtimes/`, `child_process.py` and `child.py`.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..recipe.errors import HoneError, StepCrashed, StepFailed, StepTimeout
from ..recipe.library_messages import telling
from ..runtimes.child_process import ChildProcess, Interpreter
from ..runtimes.errors import RuntimeDied, RuntimeFailed, RuntimeSilent
from ..runtimes.isolated.environment import Environment, make_environment
from ..runtimes.predict import Array, Arrays
from .scratch import lasting_folder


class TimedCalls(NamedTuple):
    """Calls that were timed without a pause.

    Attributes:
        durations: Of each call (s).
        disturbed: Time in which the process waited for a processor, as a share of the whole.
    """

    durations: list[float]
    disturbed: float


class RuntimeProcess(ChildProcess):
    """A child that can be timed.

    Its methods raise Hone's errors: StepFailed if the runtime refuses, StepCrashed if the child
    died, with the signal, StepTimeout if it does not answer.
    """

    @property
    def seconds_since_start(self) -> float:
        """Time since the process was started (s)."""
        return time.perf_counter() - self.began

    def prepare(self, batches: list[Arrays]) -> float:
        """Hand over the batches that `time_calls` goes through in turn.

        Returns:
            Duration of a first call with one of them (s).
        """
        self._send(("prepare", batches))
        return float(self._answer())

    def time_calls(self, seconds: float) -> TimedCalls:
        """Call for at least this long."""
        self.begin_calls(seconds, 0.0)
        return self.timed()

    def begin_calls(self, seconds: float, start: float) -> None:
        """Call for at least this long from a moment on (s, by `time.monotonic`); `timed` waits."""
        self._send(("time", seconds, start))

    def begin_queries(
        self, arrivals: Array, start: float, numbers: Path, bound: float, allowed: int
    ) -> None:
        """Answer queries that arrive at given times (`runtimes/queries.py`); `timed` waits.

        Its durations are latencies from the arrival on (s).
        """
        self._send(("queries", arrivals, start, numbers, bound, allowed))

    def timed(self) -> TimedCalls:
        """Wait for what was begun last."""
        return TimedCalls(*self._answer())

    def peak_memory(self) -> int:
        """Largest resident memory of the process so far (bytes)."""
        self._send(("memory",))
        return int(self._answer())

    def stop(self) -> None:
        """Pause the process until `resume`."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)

    def _temporary_folder(self) -> Path:
        return lasting_folder("child")

    def _send(self, message: tuple[Any, ...]) -> None:
        with hone_errors():
            super()._send(message)

    def _answer(self) -> Any:
        with hone_errors():
            return super()._answer()


def isolated_environment(name: str, note: Callable[[str], None] = lambda _: None) -> Environment:
    """The environment of a requirements file, created if it does not exist yet.

    Raises:
        HoneError: It can't be created; with pip's reason.
    """
    with hone_errors():
        return make_environment(name, note)


def interpreter_for(
    name: str | None, note: Callable[[str], None] = lambda _: None
) -> Interpreter | None:
    """The interpreter for a target's `RuntimeProcess`; None if the target has no environment.

    Raises:
        HoneError: The environment can't be created; with pip's reason.
    """
    return None if name is None else isolated_environment(name, note).interpreter


@contextlib.contextmanager
def hone_errors() -> Any:
    """Convert a runtime's errors to Hone's."""
    try:
        yield
    except RuntimeFailed as failed:
        raise _as_hone_error(failed) from None


def _as_hone_error(failed: RuntimeFailed) -> HoneError:
    known = {
        RuntimeFailed.__name__: StepFailed,
        RuntimeDied.__name__: StepCrashed,
        RuntimeSilent.__name__: StepTimeout,
    }
    if failed.kind in known:
        what = failed.what
        if failed.said:
            name, _, text = failed.said.partition(": ")
            what = f"the runtime raised {name}: {telling(text)}"
        return known[failed.kind](what, where=failed.where, do=failed.do)
    return HoneError.from_dict(
        {"type": failed.kind, "what": failed.what, "where": failed.where, "do": failed.do}
    )
