"""The state of the listener and of reconcile: an SQLite file in HONE_HOME.

Several processes of one machine share it. It must lie on a local disk, as SQLite requires.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...ray_workers.store.file_lock import locked
from ...recipe.errors import StoreError

_VERSION = 1
_LONGEST_TURN = 600.0  # s
_TABLES = """
CREATE TABLE IF NOT EXISTS deliveries(
    id TEXT PRIMARY KEY, received REAL NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL,
    due REAL NOT NULL, tries INTEGER NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries(state, due);
CREATE TABLE IF NOT EXISTS rules(identity TEXT PRIMARY KEY, since REAL NOT NULL);
CREATE TABLE IF NOT EXISTS seen(
    rule TEXT NOT NULL, model TEXT NOT NULL, watched TEXT NOT NULL, state TEXT NOT NULL,
    number INTEGER NOT NULL, PRIMARY KEY(rule, model, watched));
"""


class ListenerState:
    """The file, opened.

    Args:
        folder: Where it lies; created if missing.

    Raises:
        StoreError: It can't be opened, or is not what it should be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "listener.db"
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        with self._translated():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                self._file, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            (found,) = self._connection.execute("PRAGMA user_version").fetchone()
            if found > _VERSION:
                raise StoreError(
                    f"a newer version of Hone made the listener's state (version {found})",
                    where=str(self._file),
                    do="run that version, or set HONE_HOME to another folder",
                )
            self._connection.executescript(_TABLES)
            self._connection.execute(f"PRAGMA user_version={_VERSION}")

    def run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement, durably.

        Raises:
            StoreError: The file can't be read or written.
        """
        with self._lock, self._translated():
            return self._connection.execute(statement, values).fetchall()

    def run_all(self, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
        """Run statements in one transaction.

        Raises:
            StoreError: The file can't be written.
        """
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in statements:
                    self._connection.execute(statement, values)
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other thread and process of this machine out; a dead one keeps nobody out."""
        file = self.folder / "listener.lock"
        try:
            with self._turn, locked(file, lambda: None, _LONGEST_TURN):
                yield
        except TimeoutError:
            raise StoreError(
                "another process has been busy with the registry for too long",
                where=str(file),
                do="end it",
            ) from None

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            broken = not isinstance(error, sqlite3.OperationalError)
            raise StoreError(
                f"the listener's state can't be used: {error}",
                where=str(self._file),
                do="move the file away; what is in the registry then counts as seen"
                if broken
                else "see whether the disk is full, and who may write to the folder",
            ) from error
        except OSError as error:
            raise StoreError(
                f"the listener's state can't be used: {error.strerror}", where=str(self._file)
            ) from error
