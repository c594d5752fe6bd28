"""A journal of entries for MLflow, so that nothing is lost while the server is away.

Every entry is appended to a file before it is sent. A thread sends entries in order and records its
progress. What was not sent when a run ended is sent when the next one starts.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ...ray_workers.store.whole_files import replace_file
from ...recipe.strict import Strict
from .entries import HeaderEntry, JournalEntry, UnreadableEntry, Values, read_entry

#: Folder in that of the journals, for those that can't be sent.
REFUSED = "refused"
_RUN_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}\Z")
_LARGEST = 512 << 20  # bytes


class Progress(Strict):
    """How many entries were sent, and the ids that MLflow returned."""

    sent: int = Field(0, ge=0)
    ids: dict[str, Annotated[str, Field(max_length=300)]] = Field(
        default_factory=dict, max_length=100_000
    )


class BadJournal(Exception):
    """A left-over journal that can't be sent, and never will; the text says why."""


class Journal:
    """The entries of one run, in a file, and how many of them were sent.

    Args:
        path: The file; `PATH.sent` beside it has the progress.

    Attributes:
        sent: How many entries were sent.
        ids: MLflow's ids, by Hone's names of runs and models.
        entries: All of them, in order.
        unwritten: Why entries are no longer written to the file, if that is so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._progress = path.with_suffix(".sent")
        path.parent.mkdir(parents=True, exist_ok=True)
        progress = self._read_progress()
        self.sent = progress.sent
        self.ids = dict(progress.ids)
        self.entries = _read_entries(path)
        self.unwritten: OSError | None = None
        self._lock = threading.Lock()
        self._stream = path.open("a", encoding="utf-8")

    @property
    def header(self) -> HeaderEntry | None:
        """Where to send it; None if that can't be read."""
        first = self.entries[0] if self.entries else None
        return first if isinstance(first, HeaderEntry) else None

    def append(self, entry: JournalEntry) -> None:
        with self._lock:
            self.entries.append(entry)
            try:
                if self.unwritten is None:
                    self._stream.write(entry.model_dump_json() + "\n")
                    self._stream.flush()
            except OSError as error:  # a full disk; it can still be sent
                self.unwritten = error

    def waiting(self) -> int:
        """Entries that were not sent."""
        with self._lock:
            return len(self.entries) - self.sent

    def next(self, most: int = 500) -> list[JournalEntry | UnreadableEntry]:
        """The next entries to send at once: one, or all metrics, params and tags that follow."""
        with self._lock:
            rest = self.entries[self.sent : self.sent + most]
        values = list(takewhile(lambda entry: isinstance(entry, Values), rest))
        return values or rest[:1]

    def done(self, count: int) -> None:
        """Record that `count` more were sent."""
        with self._lock:
            self.sent += count
            progress = Progress(sent=self.sent, ids=self.ids)
            try:
                replace_file(self._progress, progress.model_dump_json().encode())
            except OSError as error:
                self.unwritten = error

    def close(self, remove: bool) -> None:
        """Close the file; `remove` it when everything was sent."""
        try:
            self._stream.close()
        except OSError as error:
            self.unwritten = error
        if remove:
            self.path.unlink(missing_ok=True)
            self._progress.unlink(missing_ok=True)

    def _read_progress(self) -> Progress:
        try:
            return Progress.model_validate_json(self._progress.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return Progress()


def _read_entries(path: Path) -> list[JournalEntry | UnreadableEntry]:
    if not path.exists():
        return []
    *whole, torn = path.read_text(encoding="utf-8").split("\n")
    entries = [read_entry(line) for line in whole]
    if torn and not isinstance(last := read_entry(torn), UnreadableEntry):
        entries.append(last)  # else a kill cut it
    return entries


def left_over(folder: Path) -> Iterator[Path]:
    """Journals left by earlier runs, oldest first."""

    def age(path: Path) -> float:
        try:
            return path.lstat().st_mtime
        except FileNotFoundError:  # another run has just sent it
            return 0.0

    yield from sorted(folder.glob("*.jsonl"), key=age)


def open_left_over(path: Path) -> Journal:
    """A journal that an earlier run left.

    Raises:
        BadJournal: It is damaged, or not one of Hone's.
        FileNotFoundError: Another run has sent it meanwhile.
    """
    if not _RUN_ID.match(path.stem):
        raise BadJournal("its name is not the id of a run")
    held = path.lstat()
    if not stat.S_ISREG(held.st_mode):
        raise BadJournal("it is not a file")
    if held.st_uid != os.geteuid():
        raise BadJournal("it belongs to another user")
    if held.st_size > _LARGEST:
        raise BadJournal(f"it has more than {_LARGEST >> 20} MB")
    try:
        journal = Journal(path)
    except UnicodeDecodeError as error:
        raise BadJournal("it is not text") from error
    why = None
    if journal.header is None:
        why = "its first line, which says where to send it, can't be read"
    elif journal.sent > len(journal.entries):
        why = "it says that more was sent than it holds"
    if why is not None:
        journal.close(remove=False)
        raise BadJournal(why)
    return journal


def refuse(path: Path) -> Path:
    """Put a journal aside, where no run looks for it; returns where."""
    aside = path.parent / REFUSED
    aside.mkdir(mode=0o700, exist_ok=True)
    for name in (path, path.with_suffix(".sent")):
        if name.is_symlink():
            name.unlink()
        elif name.exists():
            name.rename(aside / name.name)
    return aside / path.name
