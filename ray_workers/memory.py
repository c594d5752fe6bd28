"""Peak memory of a piece of work, including the processes that it starts."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType

import psutil

_EVERY = 0.1  # s


class PeakMemory:
    """Samples memory every tenth of a second while the block runs.

    Attributes:
        bytes: Peak resident memory of this process and its descendants.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        me = psutil.Process()
        while True:
            total = 0
            for process in (me, *me.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
            self.bytes = max(self.bytes, total)
            if self._done.wait(_EVERY):
                return
