"""A journal of entries for MLflow, so that nothing is lost while the server is away.

Every entry is appended to a file before it is sent. A thread sends entries in order and records its
progress. What was not sent when a run ended is sent when the next one starts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from ...ray_workers.store.whole_files import replace_file
from ...recipe.strict import Strict
from .entries import HeaderEntry, JournalEntry, MetricEntry, UnreadableEntry, read_entry


class Progress(Strict):
    """How many entries were sent, and the ids that MLflow returned."""

    sent: int = 0
    ids: dict[str, str] = Field(default_factory=dict)


class Journal:
    """The entries of one run, in a file, and how many of them were sent.

    Args:
        path: The file; `PATH.sent` beside it has the progress.

    Attributes:
        sent: How many entries were sent.
        ids: MLflow's ids, by Hone's names of runs and models.
        entries: All of them, in order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._progress = path.with_suffix(".sent")
        path.parent.mkdir(parents=True, exist_ok=True)
        progress = self._read_progress()
        self.sent = progress.sent
        self.ids = dict(progress.ids)
        self.entries = _read_entries(path)
        self._lock = threading.Lock()
        self._stream = path.open("a", encoding="utf-8")

    @property
    def header(self) -> HeaderEntry | None:
        """Where to send it; None if that can't be read."""
        first = self.entries[0] if self.entries else None
        return first if isinstance(first, HeaderEntry) else None

    def append(self, entry: JournalEntry) -> None:
        with self._lock:
            self._stream.write(entry.model_dump_json() + "\n")
            self._stream.flush()
            self.entries.append(entry)

    def waiting(self) -> int:
        """Entries that were not sent."""
        with self._lock:
            return len(self.entries) - self.sent

    def next(self, most: int = 500) -> list[JournalEntry | UnreadableEntry]:
        """The next entries to send at once: one, or metrics of the same run that follow."""
        with self._lock:
            rest = self.entries[self.sent : self.sent + most]
        if not rest or not isinstance(rest[0], MetricEntry):
            return rest[:1]
        same: list[JournalEntry | UnreadableEntry] = [rest[0]]
        for entry in rest[1:]:
            if not isinstance(entry, MetricEntry) or entry.ref != rest[0].ref:
                break
            same.append(entry)
        return same

    def done(self, count: int) -> None:
        """Record that `count` more were sent."""
        with self._lock:
            self.sent += count
            progress = Progress(sent=self.sent, ids=self.ids)
            replace_file(self._progress, progress.model_dump_json().encode())

    def close(self, remove: bool) -> None:
        """Close the file; `remove` it when everything was sent."""
        self._stream.close()
        if remove:
            self.path.unlink(missing_ok=True)
            self._progress.unlink(missing_ok=True)

    def _read_progress(self) -> Progress:
        try:
            return Progress.model_validate_json(self._progress.read_text())
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
    found = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    yield from found
