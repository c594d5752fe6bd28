"""Go back to an earlier champion, read the ledger, and repair what a crash left."""

from __future__ import annotations

from typing import Any

from ...recipe.errors import InputError
from .alias import move_alias
from .away import insist
from .ledger import Action, Entry, Event, Ledger, Record, new_intent
from .ledger_state import state_of
from .lookup import existing_version, number_of, version_of
from .turn import Turn, turn

CHAMPION = "champion"
_TURN = 120.0  # s that a change waits for others


def history(tracking: str, name: str) -> list[Entry]:
    """How the aliases of a model were moved, in order: from the ledger alone."""
    return list(state_of(Ledger(_client(tracking), name).entries()).changes)


def rollback(
    tracking: str,
    name: str,
    version: str | None,
    reason: str,
    who: str,
    alias: str = CHAMPION,
    wait: float = _TURN,
) -> Entry:
    """Move an alias back to an earlier version, after comparing its files with what was measured.

    Args:
        tracking: The tracking server, which is the registry too.
        name: The registered model.
        version: The version; None: the champion before the present one.
        reason: Why.
        who: A person or an account.
        alias: The alias.
        wait: How long to wait for other changes of this model, and for a server that is away (s).

    Returns:
        The entry of the ledger.

    Raises:
        InputError: There is nothing to go back to, or the version is not there any more.
        HoneError: Its files are not those that were measured.
    """

    def choose(client: Any, mine: Turn) -> str:
        target = version or _one_before(
            mine.state.line(alias), mine.state.champion(alias), name, alias
        )
        existing_version(client, name, target)
        return target

    return move_alias(
        tracking,
        name,
        choose,
        alias=alias,
        action=Action.ROLLBACK,
        who=who,
        reason=reason,
        wait=wait,
        done="nothing was changed",
    )


def repair(tracking: str, name: str, alias: str = CHAMPION, wait: float = _TURN) -> list[Entry]:
    """Finish what dead processes left open, and enter changes that were made past Hone.

    Returns:
        The entries of the ledger that say how the alias was moved and that this repair has added.

    Raises:
        HoneError: Another change goes on for too long.
    """
    client, intent = _client(tracking), new_intent()
    ledger = Ledger(client, name)

    def work() -> list[Entry]:
        entries = ledger.entries()
        state, held = state_of(entries), version_of(client, name, alias)
        now = number_of(held)
        if not state.open and now == state.champion(alias):
            return []
        asked = Record(
            event=Event.INTENT, action=Action.REPAIR, intent=intent, alias=alias, who="hone"
        )
        with turn(client, ledger, asked, wait) as mine:
            mine.close(Event.ABORTED)
        known = {entry.number for entry in entries}
        return [e for e in state_of(ledger.entries()).changes if e.number not in known]

    return insist(work, tracking, wait, "nothing was repaired")


def _client(tracking: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking, registry_uri=tracking)


def _one_before(line: list[str], present: str | None, name: str, alias: str) -> str:
    earlier = line[:-1] if line and line[-1] == present else line
    if not earlier:
        raise InputError(
            f"{name} has no earlier {alias} to go back to",
            do="name the version to go back to",
        )
    return earlier[-1]
