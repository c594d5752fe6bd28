"""One process at a time opens an embedded MLflow store: the first one creates and migrates it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from ...recipe.errors import HoneError, ServerUnreachable

_PREFIX = "sqlite:///"
_PATIENCE = 120.0  # s; creating the tables takes 2
_SCHEMA = re.compile(
    r"Can't locate revision identified by '(\w+)'|"
    r"out-of-date database schema \(found version (\w+), but expected (\w+)\)"
)


def embedded_file(uri: str) -> Path | None:
    """The database of a store without a server; None for a server."""
    return Path(uri.removeprefix(_PREFIX)) if uri.startswith(_PREFIX) else None


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Hold the lock of an embedded store; nothing for a server.

    Raises:
        ServerUnreachable: Another process holds it for too long.
    """
    database = embedded_file(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(database.with_name(f"{database.name}.lock"), flags, 0o600)
    except (
        OSError
    ):  # it can't be written, or is a link; then MLflow says what is wrong, if anything
        yield
        return
    try:
        _wait(lock, uri)
        yield
    finally:
        os.close(lock)


def _wait(lock: int, uri: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return  # a file system without locks
        if time.monotonic() > deadline:
            raise ServerUnreachable(
                f"another process has been opening MLflow's database for {_PATIENCE:.0f} s",
                where=uri,
                do="wait for it or end it, then run again",
            )
        time.sleep(0.05)


def schema_problem(error: BaseException, uri: str) -> HoneError | None:
    """The error to raise if a database was written by another version of MLflow."""
    from mlflow.version import VERSION

    found = _SCHEMA.search(str(error)) or _SCHEMA.search(str(error.__cause__ or ""))
    if found is None:
        return None
    if _is_known(found[1] or found[2]):
        return HoneError(
            f"the database is of an older MLflow (schema {found[2]}; MLflow {VERSION} has "
            f"{found[3]})",
            where=uri,
            do=f"make a copy of it, then `mlflow db upgrade {uri}`",
        )
    return HoneError(
        f"the database is of a newer MLflow (schema {found[1] or found[2]}, which MLflow {VERSION} "
        "does not know)",
        where=uri,
        do="install the MLflow that wrote it, or set MLFLOW_TRACKING_URI to another store",
    )


def _is_known(revision: str) -> bool:
    from mlflow.store.db import utils

    folder = Path(utils.__file__).parents[1] / "db_migrations" / "versions"
    return any(path.name.startswith(f"{revision}_") for path in folder.glob("*.py"))
