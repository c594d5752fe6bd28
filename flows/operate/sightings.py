"""What was seen of the registry and dealt with: for each rule and each thing that it watches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .listener_state import ListenerState

_PUT = (
    "INSERT INTO seen(rule, model, watched, state, number) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT(rule, model, watched) DO UPDATE SET state = excluded.state, "
    "number = excluded.number"
)


#: The state of what is about to be started: it may have been, and is no state of the registry.
UNSURE = "?"


@dataclass(frozen=True)
class Seen:
    """The last state that was dealt with.

    Attributes:
        state: What was there; empty: nothing.
        number: Of the last change that something was started for.
    """

    state: str
    number: int


class Sightings:
    """The sightings in a state file."""

    def __init__(self, state: ListenerState) -> None:
        self._state = state

    def rules(self) -> set[str]:
        """The rules that have begun."""
        return {str(row[0]) for row in self._state.run("SELECT identity FROM rules")}

    def begin(self, rules: Sequence[str], found: Iterable[tuple[str, str, str, str]]) -> None:
        """Begin rules, with what is there as dealt with: all of it or, on an error, nothing."""
        now = time.time()
        self._state.run_all(
            [(_PUT, (rule, model, watched, state, 0)) for rule, model, watched, state in found]
            + [
                (
                    "INSERT INTO rules(identity, since) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (r, now),
                )
                for r in rules
            ]
        )

    def get(self, rule: str, model: str, watched: str) -> Seen | None:
        found = self._state.run(
            "SELECT state, number FROM seen WHERE rule = ? AND model = ? AND watched = ?",
            (rule, model, watched),
        )
        return Seen(str(found[0][0]), int(found[0][1])) if found else None

    def put(self, rule: str, model: str, watched: str, seen: Seen) -> None:
        self._state.run(_PUT, (rule, model, watched, seen.state, seen.number))

    def present(self, rule: str) -> list[tuple[str, str]]:
        """Model and thing of everything that was there when a rule last looked."""
        found = self._state.run(
            "SELECT model, watched FROM seen WHERE rule = ? AND state != ''", (rule,)
        )
        return [(str(model), str(watched)) for model, watched in found]
