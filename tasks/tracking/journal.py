"""A journal of what is to be sent to MLflow, so that a server that is away loses nothing.

Every entry is appended to a file before it is sent; a thread sends in order and notes how far
it came. What could not be sent when a run ended is sent when the next one starts.
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
    """How far a journal was sent, and which ids MLflow gave."""

    sent: int = 0
    ids: dict[str, str] = Field(default_factory=dict)


class Journal:
    """What one run tells, in a file, and how much of it was sent.

    Args:
        path: The file; `PATH.sent` beside it holds the progress.

    Attributes:
        sent: How many entries were sent.
        ids: MLflow's ids, by what the runs and models are called here.
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
        """Where it is to be sent; None where that can't be read."""
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
        """Note that so many more were sent."""
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
    """Journals that an earlier run left, oldest first."""
    found = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    yield from found
