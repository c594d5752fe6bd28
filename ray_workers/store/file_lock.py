"""A file lock shared by the processes of one machine; released when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_LOOK_SECONDS = 0.2


@contextlib.contextmanager
def locked(
    path: Path,
    on_wait: Callable[[], None],
    limit: float,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold the lock that a file of one's own folder stands for; the file is removed afterwards.

    Args:
        path: The file; its folder must exist.
        on_wait: Called once if another process holds it.
        limit: Longest wait (s).
        stop: Asked while it waits; true ends the wait.

    Raises:
        TimeoutError: Another process held it until the limit.
        InterruptedError: `stop` ended the wait.
        OSError: The file can't be opened, or is a link.
    """
    deadline, told = time.monotonic() + limit, False
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        try:
            if _taken(descriptor, path):
                yield
                with contextlib.suppress(OSError):
                    os.unlink(path)
                return
        finally:
            os.close(descriptor)
        if not told:
            on_wait()
            told = True
        if stop():
            raise InterruptedError
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_LOOK_SECONDS)


def _taken(descriptor: int, path: Path) -> bool:
    """Lock an open file, unless another process holds it or has just removed it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except (BlockingIOError, FileNotFoundError):
        return False
