"""Whose turn it is to call a data factory that several steps of a run need."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
#: How long to wait before it is asked again whose turn it is (s).
_LOOK_AGAIN = 0.2
#: Whoever calls a factory and says nothing for so long is taken for dead (s).
_SILENT = 120.0


class Shared(Protocol):
    """The data of a run, by the key of their factory."""

    def turn(self, key: str) -> tuple[str, Any]:
        """What to do: `take` (with a reference to the content), `make` and then settle, `wait`, or
        `call` without telling anybody.
        """

    def renew(self, key: str) -> None:
        """The factory is still at work."""

    def settle(self, key: str, content: bytes | None) -> Any:
        """Keep what the factory returned, for others to take; None: they call it.

        Returns:
            A reference to the content.
        """

    def give_up(self, key: str) -> None:
        """The factory failed: whoever asks next calls it."""

    def content(self, reference: Any) -> bytes | None:
        """What is kept; None: it is lost."""


class Turns:
    """Whose turn it is to call each factory."""

    def __init__(self) -> None:
        self._at_work: dict[str, float] = {}
        self._settled: dict[str, Any] = {}

    def turn(self, key: str) -> tuple[str, Any]:
        """As `Shared.turn`."""
        if key in self._settled:
            kept = self._settled[key]
            return ("call", None) if kept is None else ("take", kept)
        if time.monotonic() - self._at_work.get(key, -_SILENT) < _SILENT:
            return "wait", None
        self.renew(key)
        return "make", None

    def renew(self, key: str) -> None:
        """As `Shared.renew`."""
        self._at_work[key] = time.monotonic()

    def settle(self, key: str, kept: Any) -> None:
        """Keep something for others to take; None: they call the factory."""
        self._settled[key] = kept

    def give_up(self, key: str) -> None:
        """As `Shared.give_up`."""
        self._at_work.pop(key, None)


def once(
    shared: Shared | None,
    key: str,
    make: Callable[[], tuple[T, Callable[[], bytes | None]]],
    taken: Callable[[bytes | None], T | None],
) -> tuple[T, Any, bool]:
    """What another step of the run made, or what this one makes.

    Args:
        shared: What other steps have; None: it is made without telling anybody.
        key: Of what is made.
        make: Makes it, and returns with it what gives its content for others (None: they make it).
        taken: From a content to what it holds; None: that can't be used.

    Returns:
        What was made, a reference to its content, and whether another step made it.
    """
    while shared is not None:
        turn, reference = shared.turn(key)
        if turn == "take":
            found = taken(shared.content(reference))
            if found is not None:
                return found, reference, True
        if turn == "make":
            try:
                made, content = make()
            except BaseException:
                shared.give_up(key)
                raise
            return made, shared.settle(key, content()), False
        if turn != "wait":
            break
        time.sleep(_LOOK_AGAIN)
    return make()[0], None, False
