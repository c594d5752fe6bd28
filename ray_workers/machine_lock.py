"""One measurement at a time on a machine, whichever users they belong to.

On Linux a name in the kernel's table of sockets stands for the lock. It is no file: it can't be a
link, has no owner or mode, and is gone when its holder is. The kernel also tells who holds it. A
container with a network of its own has a table of its own. Elsewhere, or if that is not permitted,
a file in `HONE_HOME` keeps only the measurements of one user apart.

Anybody can take the name, and hold it. So a wait has a limit. After it, a measurement of the same
user is an error, because two at a time are both wrong; another user's is reported and ignored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..recipe.errors import StepTimeout
from .store.file_lock import locked

#: Longest wait (s): half of what a step may take by default.
LIMIT = 900.0
_NAME = "hone-measurement"
_LOOK_SECONDS = 0.2
_ASKING = 128  # processes that may ask who holds it; each asks twice at most
_CREDENTIALS = struct.Struct("3i")


class Holder(NamedTuple):
    """The process that holds the lock, and its user."""

    pid: int
    uid: int

    def __str__(self) -> str:
        try:
            import pwd

            return f"process {self.pid} of {pwd.getpwuid(self.uid).pw_name}"
        except (ImportError, KeyError):
            return f"process {self.pid} of user {self.uid}"


@contextlib.contextmanager
def alone(
    note: Callable[[str], None], home: Path, limit: float = LIMIT, name: str = _NAME
) -> Iterator[None]:
    """Measure while no other measurement of Hone runs on this machine.

    Args:
        note: Called with messages for the user.
        home: `HONE_HOME`, for systems without abstract sockets.
        limit: Longest wait (s).
        name: Of the lock.

    Raises:
        StepTimeout: Another measurement of this user runs, and did not end in time.
    """
    with contextlib.ExitStack() as stack:
        if not _taken_in_kernel(stack, name, note, limit):
            _take_file(stack, home / "locks", note, limit)
        yield


def _taken_in_kernel(
    stack: contextlib.ExitStack, name: str, note: Callable[[str], None], limit: float
) -> bool:
    """Hold the name, or go on without after the limit; false: there are no such names here."""
    if sys.platform != "linux":
        return False
    deadline, told = time.monotonic() + limit, False
    while True:
        try:
            ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:
            return False
        try:
            ours.bind(f"\0{name}")
            ours.listen(_ASKING)
        except OSError as error:
            ours.close()
            if error.errno != errno.EADDRINUSE:
                return False
        else:
            stack.callback(ours.close)
            return True
        if not told:
            note(
                f"another measurement is running on this machine ({_holder(name) or 'unknown'}); "
                f"waiting for it, at most {limit / 60:.0f} min"
            )
            told = True
        if time.monotonic() > deadline:
            holder = _holder(name)
            if holder is None or holder.uid != os.geteuid():
                note(
                    f"{holder or 'another user'} has held the measurement lock for "
                    f"{limit / 60:.0f} min; measuring anyway, so latencies may be disturbed"
                )
                return True
            raise _held(str(holder), limit)
        time.sleep(_LOOK_SECONDS)


def _holder(name: str) -> Holder | None:
    """Who holds the name; None: nobody any more, or it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)  # one that accepts nobody has a full queue
        try:
            asking.connect(f"\0{name}")
            said = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    pid, uid, _ = _CREDENTIALS.unpack(said)
    return Holder(pid, uid)


def _take_file(
    stack: contextlib.ExitStack, folder: Path, note: Callable[[str], None], limit: float
) -> None:
    text = "another measurement of yours is running on this machine; waiting for it"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(locked(folder / "measurement", lambda: note(text), limit))
    except TimeoutError:
        raise _held("another process of yours", limit) from None
    except OSError as error:
        note(f"measurements can't be kept apart here: {error.strerror or error}: {folder}")


def _held(who: str, limit: float) -> StepTimeout:
    return StepTimeout(
        f"{who} has been measuring on this machine for more than {limit / 60:.0f} min",
        do="wait for it or end it, then run again",
    )
