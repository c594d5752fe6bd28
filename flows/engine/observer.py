"""Observers of a run: the terminal, a log, or nothing. An observer decides nothing."""

from __future__ import annotations

from typing import Protocol

from ...ray_workers.events import Event


class Observer(Protocol):
    """Notified of what happens, from several threads."""

    def phase(self, text: str) -> None:
        """The run enters a new phase (`starts Ray`)."""

    def started(self, label: str) -> None:
        """A step starts."""

    def event(self, label: str, event: Event) -> None:
        """A running step reports: progress, a finished epoch, a note."""

    def finished(self, label: str, seconds: float, cached: bool) -> None:
        """A step is done."""

    def failed(self, label: str, error: str) -> None:
        """A step failed for good."""

    def note(self, text: str) -> None:
        """Something that the user should know."""


class Silent:
    """Ignores everything."""

    def phase(self, text: str) -> None: ...
    def started(self, label: str) -> None: ...
    def event(self, label: str, event: Event) -> None: ...
    def finished(self, label: str, seconds: float, cached: bool) -> None: ...
    def failed(self, label: str, error: str) -> None: ...
    def note(self, text: str) -> None: ...
