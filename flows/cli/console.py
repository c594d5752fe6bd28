"""Output while a run is in progress: live rows on a terminal, plain lines otherwise."""

from __future__ import annotations

import logging
import threading
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ...ray_workers.events import EpochEnd, Event, Note, Progress

#: Steps without which there is no candidate: their errors end the run, or are told of candidates.
_NEEDED = frozenset({"check", "train", "reference", "export", "benchmark"})


class _Failures:
    """Tells each error of a step once: here, or at the end of the run if that is what it ends.

    Attributes:
        told: The errors that were told here.
    """

    def __init__(self) -> None:
        self.told: set[str] = set()

    def sentence(self, label: str, error: str) -> str:
        """What is said of a step that failed; empty if its error is told at the end."""
        if label.partition(" ")[0] in _NEEDED:
            return ""
        self.told.add(error)
        return error


class PlainLines:
    """One line when something is done. For pipes, logs and `--json` (then on standard error)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self.failures = _Failures()

    def _line(self, text: str) -> None:
        with self._lock:
            self._console.print(
                f"{time.monotonic() - self._started:6.1f}s  {escape(text)}",
                highlight=False, soft_wrap=True,
            )  # fmt: skip

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def phase(self, text: str) -> None:
        self._line(text)

    def started(self, label: str) -> None:
        return None

    def event(self, label: str, event: Event) -> None:
        if isinstance(event, EpochEnd | Note):
            self._line(f"{label}: {event.text}")

    def finished(self, label: str, seconds: float, cached: bool) -> None:
        self._line(f"{label}: {'cached' if cached else f'done in {seconds:.1f} s'}")

    def failed(self, label: str, error: str) -> None:
        said = self.failures.sentence(label, error)
        self._line(f"{label}: failed: {said}" if said else f"{label}: failed")

    def note(self, text: str) -> None:
        self._line(f"note: {text}")


class LogLines(PlainLines):
    """The same, as log records: for `HONE_LOG_FORMAT=json`."""

    def __init__(self) -> None:
        self._log = logging.getLogger("hone.run")
        self.failures = _Failures()

    def _line(self, text: str) -> None:
        self._log.info("%s", text)

    def failed(self, label: str, error: str) -> None:
        said = self.failures.sentence(label, error)
        self._log.error("%s: failed%s", label, f": {said}" if said else "")


class LiveRows:
    """Rows of running steps at the bottom of a terminal, finished ones above them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.RLock()
        self._phase = "starting"
        self._rows: dict[str, _Row] = {}
        self.failures = _Failures()
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=8, transient=True
        )

    def __enter__(self) -> LiveRows:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def phase(self, text: str) -> None:
        with self._lock:
            self._phase = text

    def started(self, label: str) -> None:
        with self._lock:
            self._rows[label] = _Row(label)

    def event(self, label: str, event: Event) -> None:
        with self._lock:
            row = self._rows.get(label)
            match event:
                case Note(text):
                    self.note(f"{label}: {text}")
                case Progress(done, total, text) if row is not None:
                    row.text, row.done, row.total = text, done, total
                case EpochEnd(text) if row is not None:
                    row.text = text

    def finished(self, label: str, seconds: float, cached: bool) -> None:
        with self._lock:
            self._rows.pop(label, None)
            said = "[dim]cached[/]" if cached else f"[dim]{seconds:.1f} s[/]"
            self._print(f"[green]✓[/] {escape(label)}  {said}")

    def failed(self, label: str, error: str) -> None:
        with self._lock:
            self._rows.pop(label, None)
            said = self.failures.sentence(label, error) or "failed"
            self._print(f"[red]✗[/] {escape(label)}  {escape(said)}")

    def note(self, text: str) -> None:
        with self._lock:
            self._print(f"[yellow]![/] {escape(text)}")

    def _render(self) -> RenderableType:
        with self._lock:
            if not self._rows:
                return Spinner("dots", Text(f" {self._phase}", style="dim"))
            return Group(*(row.render() for row in self._rows.values()))


class _Row:
    def __init__(self, label: str) -> None:
        self.label = label
        self.text = ""
        self.done = 0.0
        self.total = 0.0
        self._started = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")

    def render(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        bar: RenderableType = ""
        if self.total:
            bar = ProgressBar(total=self.total, completed=self.done, width=24)
        seconds = Text(f"{time.monotonic() - self._started:.0f} s", style="dim")
        grid.add_row(self._spinner, self.label, bar, seconds, Text(self.text, style="dim"))
        return grid
