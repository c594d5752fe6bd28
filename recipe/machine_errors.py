"""What the machine has run out of or does not permit, in one sentence, whoever noticed it.

A full disk is noticed by SQLite through SQLAlchemy, MLflow or Prefect as well as by the store, and
each wraps the system's error in its own, with statements and traces.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import HoneError, StoreError

_FREE = "free some space, or set HONE_HOME, HONE_STORE or TMPDIR to another location"
_PERMIT = "check its permissions, or set HONE_HOME and HONE_STORE to folders that you can write to"
_UNOPENED = -1  # SQLite has one text for a denied permission and for a missing inode
_SOCKS = -2
_BY_NUMBER = {
    errno.ENOSPC: ("no space or no inodes are left on the disk", _FREE),
    errno.EDQUOT: ("your disk quota is used up", _FREE),
    errno.EROFS: ("the file system is read-only", _PERMIT),
    errno.EACCES: ("a file or folder can't be accessed: permission denied", _PERMIT),
    errno.EPERM: ("a file or folder can't be changed: not permitted", _PERMIT),
    errno.EMFILE: ("too many files are open", "raise the limit: `ulimit -n 4096`"),
    _UNOPENED: (
        "a database file can't be opened or created",
        "check the permissions of its folder, and that the disk has space and inodes left (df -i)",
    ),
    errno.EIO: ("the disk failed to read or write", "look at the system's log"),
    _SOCKS: (
        "the environment names a SOCKS proxy, and a client lacks the package for it",
        'pip install "httpx[socks]" "requests[socks]"; or unset all_proxy and the like',
    ),
}  # fmt: skip
#: What SQLite, httpx and requests say, and the system itself where only its text is left.
_BY_TEXT = {
    "database or disk is full": errno.ENOSPC,
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "attempt to write a readonly database": errno.EROFS,
    "Read-only file system": errno.EROFS,
    "unable to open database file": _UNOPENED,
    "Permission denied": errno.EACCES,
    "disk I/O error": errno.EIO,
    "Too many open files": errno.EMFILE,
    "the 'socksio' package is not installed": _SOCKS,
    "Missing dependencies for SOCKS support": _SOCKS,
}


def machine_error(error: BaseException) -> HoneError | None:
    """The sentence for an error that the machine is the cause of; None: it is another kind."""
    for cause in _causes(error):
        if isinstance(cause, HoneError):
            return None
        number = cause.errno if isinstance(cause, OSError) else None
        where = cause.filename if isinstance(cause, OSError) else None
        if number not in _BY_NUMBER:
            text = str(cause)
            number = next((n for said, n in _BY_TEXT.items() if said in text), None)
        if number in _BY_NUMBER:
            what, do = _BY_NUMBER[number]
            if number == _SOCKS:
                return HoneError(what, do=do)
            return StoreError(what, where=where if isinstance(where, str) else None, do=do)
    return None


def folder_error(folder: Path, least: int = 2**18) -> HoneError | None:
    """The sentence for a folder that can't be written now; None: it can.

    Before a run, and for what another process writes there and only says that it failed.

    Args:
        folder: If it doesn't exist, the nearest one above it counts.
        least: Free space that it must have (bytes). SQLite needs some pages for a transaction.
    """
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        held = os.statvfs(folder)
    except OSError as error:
        return machine_error(error)
    if held.f_flag & os.ST_RDONLY:
        number = errno.EROFS
    elif held.f_bavail * held.f_frsize < least or (held.f_files and not held.f_favail):
        number = errno.ENOSPC
    elif not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EACCES
    else:
        return None
    what, do = _BY_NUMBER[number]
    return StoreError(what, where=str(folder), do=do)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    ahead: BaseException | None = error
    while ahead is not None and id(ahead) not in seen:
        seen.add(id(ahead))
        yield ahead
        ahead = ahead.__cause__ or ahead.__context__
