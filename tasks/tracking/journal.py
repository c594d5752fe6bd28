"""A journal of what is to be sent to MLflow, so that a server that is away loses nothing.

Every operation is appended to a file before it is sent; a thread sends in order and notes how far
it came. What could not be sent when a run ended is sent when the next one starts.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...ray_workers.store.whole_files import replace_file

Operation = dict[str, Any]
Send = Callable[[list[Operation], dict[str, str]], None]


class Journal:
    """Operations of one run, in a file, and how many of them were sent.

    Args:
        path: The file; `PATH.sent` beside it holds the progress.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._progress = path.with_suffix(".sent")
        path.parent.mkdir(parents=True, exist_ok=True)
        said = self._read_progress()
        self.sent = int(said.get("sent", 0))
        self.ids: dict[str, str] = dict(said.get("ids", {}))
        self.operations: list[Operation] = []
        if path.exists():
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):  # a last line cut by a kill
                    self.operations.append(json.loads(line))
        self._lock = threading.Lock()
        self._stream = path.open("a", encoding="utf-8")

    def append(self, operation: Operation) -> None:
        with self._lock:
            self._stream.write(json.dumps(operation) + "\n")
            self._stream.flush()
            self.operations.append(operation)

    def waiting(self) -> int:
        """Operations that were not sent."""
        with self._lock:
            return len(self.operations) - self.sent

    def next(self, most: int = 500) -> list[Operation]:
        """The next operations to send at once: one, or metrics of the same run that follow."""
        with self._lock:
            rest = self.operations[self.sent : self.sent + most]
        if not rest or rest[0]["op"] != "metrics":
            return rest[:1]
        same = [rest[0]]
        for operation in rest[1:]:
            if operation["op"] != "metrics" or operation["ref"] != rest[0]["ref"]:
                break
            same.append(operation)
        return same

    def done(self, count: int) -> None:
        """Note that so many more were sent."""
        with self._lock:
            self.sent += count
            said = json.dumps({"sent": self.sent, "ids": self.ids})
            replace_file(self._progress, said.encode())

    def close(self, remove: bool) -> None:
        """Close the file; `remove` it when everything was sent."""
        self._stream.close()
        if remove:
            self.path.unlink(missing_ok=True)
            self._progress.unlink(missing_ok=True)

    def _read_progress(self) -> dict[str, Any]:
        try:
            said = json.loads(self._progress.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}


def left_over(folder: Path) -> Iterator[Path]:
    """Journals that an earlier run left, oldest first."""
    found = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    yield from found
