"""What follows from a ledger's entries. Pure: no registry is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .ledger import Action, Entry, Event


@dataclass(frozen=True)
class LedgerState:
    """What a ledger says.

    Attributes:
        changes: Entries that say how an alias was moved, in order.
        open: Intents that nothing has closed, in order.
        closed: How each intent was closed.
    """

    changes: tuple[Entry, ...]
    open: tuple[Entry, ...]
    closed: dict[str, Event]

    def champion(self, alias: str) -> str | None:
        """The version that has an alias; None if none has."""
        last = self.last_change(alias)
        return None if last is None else last.record.after

    def last_change(self, alias: str) -> Entry | None:
        """The last change of an alias."""
        return next((e for e in reversed(self.changes) if e.record.alias == alias), None)

    def line(self, alias: str) -> list[str]:
        """Champions that can be gone back to, the present one last.

        A rollback takes away what it goes back over, so the next one goes further back.
        """
        line: list[str] = []
        for change in self.changes:
            record = change.record
            if record.alias != alias or record.after is None:
                continue
            if record.action is Action.ROLLBACK and record.after in line:
                del line[len(line) - line[::-1].index(record.after) :]
            elif not line or line[-1] != record.after:
                line.append(record.after)
        return line


def state_of(entries: Sequence[Entry]) -> LedgerState:
    """The state after all entries.

    A request that MLflow's client sends again, because a slow server's answer was late, makes an
    entry twice. Of two that close one intent, the first counts; what was observed already is no
    change.
    """
    intents: dict[str, Entry] = {}
    closed: dict[str, Event] = {}
    changes: list[Entry] = []
    for entry in entries:
        record = entry.record
        match record.event:
            case Event.INTENT:
                intents.setdefault(record.intent, entry)
            case Event.OBSERVED:
                last = next((e for e in reversed(changes) if e.record.alias == record.alias), None)
                if last is None or last.record.after != record.after:
                    changes.append(entry)
            case Event.DONE | Event.ABORTED:
                if record.intent in intents and record.intent not in closed:
                    closed[record.intent] = record.event
                    if record.event is Event.DONE:
                        changes.append(entry)
    still_open = tuple(e for name, e in intents.items() if name not in closed)
    return LedgerState(tuple(changes), still_open, closed)
