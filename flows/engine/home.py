"""`HONE_HOME` is its user's own: nobody else reads what is in it.

It holds the store, MLflow's database, journals with what is still to be sent, and the key that
signs results.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ...recipe.errors import StoreError
from ...recipe.machine_errors import folder_error
from .settings import Settings

_OTHERS = 0o077  # permissions of anybody but the owner
_LEAST = 2**15  # bytes: with less, not even a database can be opened


def open_home(home: Path) -> None:
    """Create the home, or close an existing one to others.

    Raises:
        StoreError: It belongs to another user, or can't be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = home.stat().st_uid
    except OSError as error:
        raise _unusable(home, f"it can't be created: {error.strerror or error}") from error
    if owner != os.geteuid() and os.geteuid() != 0:
        raise _unusable(home, f"it belongs to another user ({_name(owner)})")
    if not os.access(home, os.W_OK | os.X_OK):
        raise _unusable(home, "it can't be written")
    if owner == os.geteuid():
        _close(home)


def usable_settings() -> Settings:
    """The settings, with a home that can be used.

    Raises:
        StoreError: It belongs to another user, or can't be written.
    """
    settings = Settings.from_environment()
    open_home(settings.home)
    return settings


def require_writable(settings: Settings, *more: Path) -> None:
    """Refuse a full or read-only disk before anything is started.

    Args:
        settings: Its home, and its store if that is a local folder.
        more: Other folders that a run writes to.

    Raises:
        HoneError: One of them can't be written.
    """
    store = [] if "://" in settings.store else [Path(settings.store)]
    for folder in (settings.home, *store, *more):
        if (error := folder_error(folder, _LEAST)) is not None:
            raise error


@contextlib.contextmanager
def private_files(settings: Settings) -> Iterator[None]:
    """Files that are created meanwhile, here and in processes that are started, are the user's own.

    A store in a local folder elsewhere is shared as its user's umask says.
    """
    store = settings.store
    elsewhere = "://" not in store and not Path(store).resolve().is_relative_to(settings.home)
    if elsewhere:
        yield
        return
    before = os.umask(_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def _close(home: Path) -> None:
    """Take the permissions of others from a folder and from what lies directly in it."""
    with contextlib.suppress(OSError), os.scandir(home) as entries:
        places = [home, *(Path(e.path) for e in entries if not e.is_symlink())]
        for place in places:
            said = place.lstat()
            if said.st_uid == os.geteuid() and said.st_mode & _OTHERS:
                place.chmod(said.st_mode & 0o7700)


def _name(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


def _unusable(home: Path, why: str) -> StoreError:
    return StoreError(
        f"HONE_HOME can't be used: {why}",
        where=str(home),
        do="set HONE_HOME to a folder that you can write to",
    )
