"""Go back to an earlier champion, read the ledger, and repair what a crash left."""

from __future__ import annotations

from typing import Any

from ...recipe.errors import HoneError, InputError
from . import names
from .away import insist
from .ledger import Action, Entry, Event, Ledger, Record, new_intent
from .ledger_state import state_of
from .registered_bytes import verify_version
from .turn import turn, version_of

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
    client, ledger, intent = _client(tracking), Ledger(_client(tracking), name), new_intent()
    if not reason.strip():
        raise InputError("a rollback needs a reason", where="reason")
    asked = Record(
        event=Event.INTENT, action=Action.ROLLBACK, intent=intent, alias=alias,
        after=version, who=who, why=reason[:2000],
    )  # fmt: skip

    def work() -> Entry:
        _require_model(client, tracking, name)
        if (done := ledger.done(intent)) is not None:  # and the answer was lost
            return done
        with turn(client, ledger, asked, wait) as mine:
            line = mine.state.line(alias)
            present = mine.state.champion(alias)
            target = version or _one_before(line, present, name, alias)
            found = _existing(client, name, target)
            if present == target:
                raise InputError(f"version {target} of {name} is the {alias} already")
            verdict = verify_version(tracking, client, found)
            measured = {
                e.record.evidence.get(names.DIGEST)
                for e in mine.state.changes
                if e.record.after == target and e.record.evidence.get(names.DIGEST)
            }
            if not verdict.holds or (measured and verdict.found not in measured):
                raise HoneError(
                    f"{verdict.sentence}; nothing was changed" if not verdict.holds
                    else f"version {target} of {name} does not hold what the ledger says; "
                    "nothing was changed",
                    where=tracking,
                    do="go back to another version with --version",
                )  # fmt: skip
            mine.record = asked.model_copy(
                update={"evidence": {names.DIGEST: verdict.found}, "after": target}
            )
            mine.claim(found)
            mine.move(present, target)
        entry = ledger.done(intent)
        assert entry is not None, "it was just added"
        return entry

    return insist(work, tracking, wait, "nothing was rolled back")


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
        now = None if held is None else str(held.version)
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


def _require_model(client: Any, tracking: str, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise InputError(f"the registry has no model {name}", where=tracking) from error


def _one_before(line: list[str], present: str | None, name: str, alias: str) -> str:
    earlier = line[:-1] if line and line[-1] == present else line
    if not earlier:
        raise InputError(
            f"{name} has no earlier {alias} to go back to",
            do="name a version with --version",
        )
    return earlier[-1]


def _existing(client: Any, name: str, version: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise InputError(f"version {version} of {name} is not there any more") from error
