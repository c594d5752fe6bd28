"""Users without a home folder, as a container that runs under any user id has them."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

#: Settings of a user in their home: where there are some, it is used although it is read-only.
_SETTINGS = (".prefect", ".ray", ".mlflow")


def use_hone_home(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let `HOME` be `HONE_HOME`, where the latter is set and the user's home can't be used.

    Prefect keeps its database in `~/.prefect`, and other libraries their caches, unless each of
    them is told otherwise.

    Args:
        environment: Changed in place; processes that are started inherit it.
    """
    hone_home = environment.get("HONE_HOME")
    if hone_home and not _is_usable(environment.get("HOME")):
        environment["HOME"] = str(Path(hone_home).absolute())


def _is_usable(named: str | None) -> bool:
    try:
        home = Path(named or "~").expanduser()
    except RuntimeError:  # this user id has no entry in the system's list of users
        return False
    try:
        known = any((home / name).exists() for name in _SETTINGS)
        return known or (home.is_dir() and os.access(home, os.W_OK | os.X_OK))
    except OSError:
        return False
