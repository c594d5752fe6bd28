"""Temporary folders, which don't outlive their process for long, however it ends.

A process has one private folder for all of them, with a lock that the kernel releases when the
process is gone. A process that makes its own removes those that nobody holds, so a killed process
leaves nothing for ever. Whether a process lives is never judged by age or process id.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_PREFIX, _NEW = "hone-of-", "hone-new-"
_LOCK = ".held"
#: Longest path of a socket is 107 bytes; a Ray session needs this many below its folder.
_RAY_NEEDS = 66
_guard = threading.Lock()
_roots: dict[tuple[int, bool], Path] = {}


@contextlib.contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """A new private folder, removed afterwards.

    Args:
        kind: What it is for, the start of its name.
    """
    folder = lasting_folder(kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lasting_folder(kind: str, reachable: bool = False) -> Path:
    """A new private folder, removed when this process ends.

    Args:
        kind: What it is for, the start of its name.
        reachable: It can be given to another user.
    """
    return Path(tempfile.mkdtemp(prefix=f"hone-{kind}-", dir=_root(reachable)))


def ray_folder() -> Path | None:
    """A new private folder for a Ray session; None if its path is too long for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir=_root()))
    if len(os.fsencode(folder)) + _RAY_NEEDS <= 107:
        return folder
    folder.rmdir()
    return None


def sweep() -> int:
    """Remove what dead processes of this user left; returns how many."""
    removed = 0
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and _is_left(Path(entry.path)):
                shutil.rmtree(entry.path, ignore_errors=True)
                removed += 1
    return removed


def _root(reachable: bool = False) -> Path:
    """This process's folder."""
    key = os.getpid(), reachable  # a forked process has its own
    with _guard:
        known = _roots.get(key)
        if known is not None and known.is_dir():
            return known
        sweep()
        made = Path(tempfile.mkdtemp(prefix=_NEW))
        descriptor = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # open, and so held, as long as this process lives
        root = made.with_name(made.name.replace(_NEW, _PREFIX, 1))
        if reachable:
            made.chmod(0o711)
        made.rename(root)  # only now others look at it
        _roots[key] = root
        atexit.register(_remove, root, os.getpid())
        return root


def _remove(root: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(root, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Whether a folder is this user's, and the process that made it is gone."""
    try:
        said = folder.lstat()
        if not stat.S_ISDIR(said.st_mode) or said.st_uid != os.geteuid():
            return False
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True  # half removed
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
