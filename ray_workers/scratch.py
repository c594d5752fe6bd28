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

from ..recipe.errors import HoneError

_PREFIX, _NEW = "hone-of-", "hone-new-"
_LOCK = ".held"
#: Longest path of a folder for a Ray session (bytes). A socket's has at most 107, of which 66 are
#: Ray's own (`/session_DATE_TIME_PID/sockets/plasma_store.1`) and 27 `/hone-of-XXXXXXXX/rXXXXXXXX`.
_LONGEST_PLACE = 107 - 66 - 27
#: The same for `/pymp-XXXXXXXX/listener-XXXXXXXX` of multiprocessing.
_LONGEST_FOR_SOCKETS = 107 - 32
#: Where a Ray session goes if the temporary folder's path is too long for its sockets.
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (only a private folder is made there)
_guard = threading.Lock()
_roots: dict[tuple[int, bool, str], Path] = {}


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


def process_folder() -> Path:
    """This process's own private folder, for libraries that don't remove what they create.

    What a killed process leaves there is removed with it, and nobody else knows its name.
    """
    return _root()


def use_for_temporary_files(folder: Path) -> None:
    """Make `tempfile` of this process use a folder.

    Nothing changes where sockets, which `multiprocessing` creates there, would get too long a path.
    """
    if len(os.fsencode(folder)) <= _LONGEST_FOR_SOCKETS:
        tempfile.tempdir = str(folder)


def private_caches() -> None:
    """Move caches of libraries from fixed names in the shared temporary folder to a private one.

    PyTorch runs the code that it finds in `/tmp/torchinductor_USER`, whoever put it there.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(process_folder() / "inductor"))


def ray_folder() -> Path:
    """A new private folder for a Ray session, with a path that is short enough for Ray's sockets.

    It is in the temporary folder; if that has too long a path, in the one of `RAY_TMPDIR`, `/tmp`,
    `/var/tmp` and `/dev/shm` that can be used.

    Raises:
        HoneError: None of them can.
    """
    places = (tempfile.gettempdir(), os.environ.get("RAY_TMPDIR", ""), *_SHORT)
    for place in dict.fromkeys(filter(None, places)):
        if len(os.fsencode(place)) > _LONGEST_PLACE or not os.access(place, os.W_OK | os.X_OK):
            continue
        with contextlib.suppress(OSError):  # full, or another user's
            return Path(tempfile.mkdtemp(prefix="r", dir=_root(place=place)))
    raise HoneError(
        f"Ray needs a temporary folder with a path of at most {_LONGEST_PLACE} bytes that can be "
        "written to",
        where=f"TMPDIR={tempfile.gettempdir()}",
        do="set RAY_TMPDIR to a folder with a short path",
    )


def sweep(place: str | None = None) -> int:
    """Remove what dead processes of this user left in a folder; returns how many.

    Args:
        place: The folder; None: the temporary one.
    """
    removed = 0
    with contextlib.suppress(OSError), os.scandir(place or tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and _is_left(Path(entry.path)):
                shutil.rmtree(entry.path, ignore_errors=True)
                removed += 1
    return removed


def _root(reachable: bool = False, place: str | None = None) -> Path:
    """This process's folder in the temporary one, or in another."""
    place = place or tempfile.gettempdir()
    key = os.getpid(), reachable, place  # a forked process has its own
    with _guard:
        known = _roots.get(key)
        if known is not None and known.is_dir():
            return known
        sweep(place)
        made = Path(tempfile.mkdtemp(prefix=_NEW, dir=place))
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
