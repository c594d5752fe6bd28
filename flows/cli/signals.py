"""Signals end a run in order: MLflow, Prefect and Ray are told.

By default SIGTERM and SIGHUP end the process at once, and Ray's processes, MLflow's runs and
Prefect's flow run stay behind. SIGKILL can't be caught; the next run cleans up after it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

#: Longest time that a run has to end in order (s).
_PATIENCE = 45.0
#: Longest wait for an import to be over (s).
_IMPORTING = 2.0
#: Files whose code is not cut in half. An exception within an import can leave its lock held, and
#: whoever imports next hangs; grimp's Rust code panics at one, with a message of its own.
_WHOLE = re.compile(r"<frozen importlib|.*[/\\]site-packages[/\\]grimp[/\\]")


class Ended(KeyboardInterrupt):
    """A signal asked the command to end.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        return "interrupted" if self.number == signal.SIGINT else f"ended by {name}"

    @property
    def exit_code(self) -> int:
        return 128 + self.number


class _Ending:
    """Turns the first signal into an exception, and makes sure that the process ends.

    Args:
        at_last: What still has to be ended if the process does not end in time.
    """

    def __init__(self, at_last: Callable[[], None]) -> None:
        self._at_last = at_last
        self._first: int | None = None
        self._asked: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._first is None and _is_within(frame):
            self._after_it(number)
            return
        if self._first is None:
            self._first = number
            self._later(_PATIENCE, self._at_once)
            raise Ended(number)
        if number == signal.SIGINT:  # who presses Ctrl-C again does not want to wait
            sys.stderr.write("hone: ending at once\n")
            self._at_once()

    @property
    def first(self) -> int | None:
        """The signal that asked for the end."""
        return self._first

    def _after_it(self, number: int) -> None:
        """Once what is not cut in half is over."""
        self._asked = self._asked or time.monotonic()
        if time.monotonic() - self._asked > _IMPORTING:  # at the beginning of a run
            self._first = number
            sys.stderr.write(f"hone: {Ended(number)}\n")
            self._at_once()
        self._later(0.05, lambda: os.kill(os.getpid(), number))

    def _at_once(self) -> None:
        with contextlib.suppress(Exception):
            self._at_last()
        os._exit(128 + (self._first or signal.SIGTERM))

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, work)
        timer.daemon = True
        timer.start()


def _is_within(frame: FrameType | None) -> bool:
    """Whether something runs there that is not cut in half."""
    while frame is not None:
        if _WHOLE.match(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def ended_by_signals(at_last: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A context in which SIGINT, SIGTERM and SIGHUP raise `Ended` in the main thread, once.

    What is ignored stays ignored: `nohup hone run` survives its terminal.

    Args:
        at_last: What ends processes that were started, if the run can't end in order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    end = _Ending(at_last)
    names = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        names.append(signal.SIGHUP)
    before = {}
    for name in names:
        if signal.getsignal(name) is not signal.SIG_IGN:
            before[name] = signal.signal(name, end)
    try:
        yield
    except BaseException as error:
        if end.first is None or isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        # What a library has made of the interruption: an error of its own, or a panic.
        raise Ended(end.first) from error
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
