"""One change of a model's aliases at a time, whoever asks, on every store.

MLflow can't compare and swap. But an intent in the ledger gets a number from the registry, and
whoever has the lowest open number has the turn (a ticket lock). The steps of a change:

1. the intent is recorded;
2. the version exists, tagged with the intent;
3. its files are verified;
4. the aliases are moved;
5. the ledger says so, which closes the intent.

A process that is killed leaves its intent open. The next one that wants a turn finishes it: if the
alias is at the version of that intent, step 5 is done for it; else the intent is closed as one that
changed nothing. Each step can be done twice without harm.

A process on another machine, or one that hangs, counts as dead when its intent is older than
`LEASE` by the registry's clock. Should it go on, it finds its intent closed before it moves an
alias.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...recipe.errors import HoneError
from . import names
from .away import is_away
from .ledger import Entry, Event, Ledger, Record
from .ledger_state import LedgerState, state_of
from .liveness import is_gone, owner_in, this_process
from .lookup import number_of, version_of

PREVIOUS = "previous"
LEASE = 900.0  # s
_LOOK = 0.2  # s between two looks at the ledger
_active: set[str] = set()  # intents that a thread of this process works on
_lock = threading.Lock()


@dataclass
class Turn:
    """The right to move an alias, until the ledger says that it was done.

    Attributes:
        ledger: The ledger.
        client: MLflow's client.
        record: The intent.
        state: What the ledger said when the turn came.
    """

    ledger: Ledger
    client: Any
    record: Record
    state: LedgerState

    @property
    def is_over(self) -> bool:
        return self.record.intent in state_of(self.ledger.entries()).closed

    def require(self) -> None:
        """Make sure that nobody took this process for dead meanwhile.

        Raises:
            HoneError: Somebody did, and closed the intent.
        """
        if self.is_over:
            raise HoneError(
                f"this {self.record.action} of {self.ledger.model} took so long that another "
                "process took it for dead; nothing was changed",
                do="run again",
            )

    def claim(self, version: Any) -> None:
        """Tag a version as the one of this intent (step 2)."""
        self.client.set_model_version_tag(
            self.ledger.model, str(version.version), names.INTENT, self.record.intent
        )

    def move(self, before: str | None, after: str, keep: bool = True) -> None:
        """Move the alias (step 4), and say so (step 5).

        Args:
            before: The version that has it.
            after: The version that gets it.
            keep: Whether `before` gets the alias `previous`.
        """
        self.require()
        model, alias = self.ledger.model, self.record.alias
        if before is not None and before != after and keep:
            self.client.set_registered_model_alias(model, PREVIOUS, before)
        self.client.set_registered_model_alias(model, alias, after)
        self.close(Event.DONE, before, after)

    def close(self, event: Event, before: str | None = None, after: str | None = None) -> None:
        """Close the intent."""
        self.ledger.append(_closing(self.record, event, before, after))


@contextlib.contextmanager
def turn(client: Any, ledger: Ledger, record: Record, wait: float) -> Iterator[Turn]:
    """Record an intent, wait for its turn, and close it as one that changed nothing if it fails.

    Args:
        client: MLflow's client.
        ledger: The ledger.
        record: The intent; with the id of one that is there, that one goes on.
        wait: How long to wait for others (s).

    Raises:
        HoneError: Another change goes on for too long.
    """
    intent = record.intent
    with _lock:
        _active.add(intent)
    try:
        if not any(e.record.intent == intent for e in ledger.entries()):  # step 1
            ledger.append(record.model_copy(update={"owner": this_process().model_dump_json()}))
        state = _wait(client, ledger, record, wait)
        yield Turn(ledger, client, record, _settle(client, ledger, record.alias, state))
    except Exception as error:
        if not is_away(error):  # else this is tried again
            with contextlib.suppress(Exception):  # else the next one does it
                _give_up(client, ledger, intent)
        raise
    finally:
        with _lock:
            _active.discard(intent)


def _give_up(client: Any, ledger: Ledger, intent: str) -> None:
    state = state_of(ledger.entries())
    for entry in state.open:
        if entry.record.intent == intent:
            _finish(client, ledger, entry, state)


def _wait(client: Any, ledger: Ledger, record: Record, wait: float) -> LedgerState:
    deadline = time.monotonic() + wait
    began = time.monotonic()
    while True:
        entries = ledger.entries()
        state = state_of(entries)
        mine = next(e for e in entries if e.record.intent == record.intent)
        if record.intent in state.closed:
            raise HoneError(
                f"another process took this {record.action} of {ledger.model} for dead",
                do="run again",
            )
        ahead = [e for e in state.open if e.number < mine.number]
        if not ahead:
            return state
        now_ms = mine.time_ms + (time.monotonic() - began) * 1000  # on the registry's clock
        if _is_dead(ahead[0], now_ms):
            # It may have closed its intent and ended since the entries were read.
            if ahead[0].record.intent not in state_of(ledger.entries()).closed:
                _finish(client, ledger, ahead[0], state)
            continue
        if time.monotonic() > deadline:
            other = ahead[0].record
            raise HoneError(
                f"another {other.action} of {ledger.model} has been going on for {wait:.0f} s",
                where=f"{other.who} ({other.owner[:120]})",
                do="run again when it is done; nothing is computed twice",
            )
        time.sleep(_LOOK)


def _is_dead(entry: Entry, now_ms: float) -> bool:
    owner = owner_in(entry.record.owner)
    if owner is not None and owner == this_process():
        with _lock:
            return entry.record.intent not in _active
    gone = owner is not None and is_gone(owner)
    return gone or (now_ms - entry.time_ms) / 1000 > LEASE


def _finish(client: Any, ledger: Ledger, entry: Entry, state: LedgerState) -> None:
    """Close the intent of a dead process, by what it has reached."""
    record, alias = entry.record, entry.record.alias
    before = state.champion(alias)
    held = version_of(client, ledger.model, alias)
    if held is not None and dict(held.tags).get(names.INTENT) == record.intent:
        after = str(held.version)
        evidence = {**record.evidence, "recovered": "its process was gone"}
        moved = record.model_copy(update={"evidence": evidence})
        ledger.append(_closing(moved, Event.DONE, before, after))
        return
    last = state.last_change(alias)
    if last is not None and held is not None:  # it may have moved `previous` already
        previous, wanted = version_of(client, ledger.model, PREVIOUS), last.record.before
        if previous is not None and str(previous.version) != wanted:
            _restore_previous(client, ledger.model, wanted)
    ledger.append(_closing(record, Event.ABORTED))


def _restore_previous(client: Any, model: str, wanted: str | None) -> None:
    from mlflow.exceptions import MlflowException

    client.delete_registered_model_alias(model, PREVIOUS)
    if wanted is not None:
        with contextlib.suppress(MlflowException):  # it was deleted
            client.set_registered_model_alias(model, PREVIOUS, wanted)


def _settle(client: Any, ledger: Ledger, alias: str, state: LedgerState) -> LedgerState:
    """Enter a change that was made past Hone; the caller has the turn."""
    held = version_of(client, ledger.model, alias)
    now, said = number_of(held), state.champion(alias)
    if now == said:
        return state
    known = state.last_change(alias) is not None
    why = "the alias was moved past Hone" if known else "it was there before the ledger"
    ledger.append(Record(event=Event.OBSERVED, alias=alias, before=said, after=now, why=why))
    return state_of(ledger.entries())


def _closing(
    record: Record, event: Event, before: str | None = None, after: str | None = None
) -> Record:
    return record.model_copy(update={"event": event, "before": before, "after": after, "owner": ""})
