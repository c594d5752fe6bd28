"""Folders that are written beside their final place and then renamed; dead processes leave none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = ".aside-"
_swept: set[Path] = set()


@contextlib.contextmanager
def aside_in(parent: Path) -> Iterator[Path]:
    """A new folder, as open to others as its parent; what is not renamed is removed afterwards.

    Args:
        parent: Its parent, which is created if it does not exist.
    """
    parent.mkdir(parents=True, exist_ok=True)
    if parent not in _swept:
        _swept.add(parent)
        sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_boot()}-", dir=parent))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with contextlib.suppress(OSError):  # not on every file system; then it is never swept
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what dead processes of this user and machine left in a folder."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(f"{_PREFIX}{_boot()}-") and _is_left(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_left(folder: str) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        said = os.fstat(descriptor)
        if not stat.S_ISDIR(said.st_mode) or said.st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _boot() -> str:
    """What tells this machine, since it was started, from others that share the folder."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")[:8]
    except OSError:
        return f"{os.uname().nodename[:16]}"
