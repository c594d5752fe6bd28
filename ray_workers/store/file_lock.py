"""A file lock shared by the processes of one machine; released when its holder dies."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable

_LOOK_SECONDS = 0.2


def acquire(descriptor: int, on_wait: Callable[[], None]) -> None:
    """Lock an open file, and wait while another process holds it; closing the file unlocks it.

    Args:
        descriptor: Of the file, opened for writing.
        on_wait: Called once if it has to wait.
    """
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told:
                on_wait()
                told = True
            time.sleep(_LOOK_SECONDS)
