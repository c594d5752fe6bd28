"""SIGTERM and SIGHUP end a run as Ctrl-C does: MLflow, Prefect and Ray are told.

By default they end the process at once, and Ray's processes, MLflow's runs and Prefect's flow run
stay behind. SIGKILL can't be caught; the next run cleans up after it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Ended(KeyboardInterrupt):
    """A signal asked the command to end.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        return 128 + self.number


def _names() -> list[signal.Signals]:
    return [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """A context in which SIGTERM and SIGHUP raise `Ended` in the main thread, once.

    What is ignored stays ignored: `nohup hone run` survives its terminal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = False

    def end(number: int, _: FrameType | None) -> None:
        nonlocal ending
        if not ending:  # a second one must not cut short what the first one began
            ending = True
            raise Ended(number)

    before = {}
    for name in _names():
        if signal.getsignal(name) is not signal.SIG_IGN:
            before[name] = signal.signal(name, end)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
