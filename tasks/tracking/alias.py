"""Move an alias to a registered version: verified, in its turn, and entered in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...recipe.errors import HoneError, InputError
from ...recipe.registry_names import require_names
from . import names
from .away import insist
from .ledger import Action, Entry, Event, Ledger, Record, new_intent
from .lookup import existing_version, require_model
from .registered_bytes import verify_version
from .self_proof import what_to_do
from .turn import Turn, turn


def move_alias(
    tracking: str,
    name: str,
    choose: Callable[[Any, Turn], str],
    *,
    alias: str,
    action: Action,
    who: str,
    reason: str,
    wait: float,
    done: str,
) -> Entry:
    """Move an alias to a registered version, after comparing its files with what was measured.

    Args:
        tracking: The tracking server, which is the registry too.
        name: The registered model.
        choose: From the client and the turn to the version; it may refuse.
        alias: The alias.
        action: Why it is moved.
        who: A person or an account.
        reason: Why.
        wait: How long to wait for other changes of this model, and for a server that is away (s).
        done: What did not happen if it can't be done, as an error says it.

    Returns:
        The entry of the ledger.

    Raises:
        InputError: There is no such model or version, it has the alias, or no reason was given.
        HoneError: Its files are not those that were measured; or it can't repeat what was measured
            here (a rollback does not try, because it is to restore at once).
    """
    import mlflow

    require_names(name, alias)
    if not reason.strip():
        what = "promotion" if action is Action.PROMOTE else action
        raise InputError(f"the {what} needs a reason", where="reason")
    client = mlflow.MlflowClient(tracking, registry_uri=tracking)
    ledger, intent = Ledger(client, name), new_intent()
    asked = Record(
        event=Event.INTENT, action=action, intent=intent, alias=alias, who=who[:300],
        why=reason[:2000],
    )  # fmt: skip

    def work() -> Entry:
        require_model(client, tracking, name)
        if (carried_out := ledger.done(intent)) is not None:  # and the answer was lost
            return carried_out
        with turn(client, ledger, asked, wait) as mine:
            present = mine.state.champion(alias)
            target = choose(client, mine)
            found = existing_version(client, name, target)
            if present == target:
                raise InputError(f"version {target} of {name} is the {alias} already")
            proves = action is not Action.ROLLBACK  # which restores at once
            digest = _verified(tracking, client, found, mine, done, proves)
            mine.record = asked.model_copy(
                update={"evidence": {names.DIGEST: digest}, "after": target}
            )
            mine.claim(found)
            mine.move(present, target)
        entry = ledger.done(intent)
        assert entry is not None, "it was just added"  # noqa: S101 (narrows a type)
        return entry

    return insist(work, tracking, wait, done)


def _verified(tracking: str, client: Any, found: Any, mine: Turn, done: str, proves: bool) -> str:
    """The digest of a version's files, which are those that were measured.

    Raises:
        HoneError: They are not, or the model does not give the measured outputs here.
    """
    verdict = verify_version(tracking, client, found, prove=proves)
    measured = {
        entry.record.evidence.get(names.DIGEST)
        for entry in mine.state.changes
        if entry.record.after == verdict.version and entry.record.evidence.get(names.DIGEST)
    }
    place = f"models:/{verdict.model}/{verdict.version}"
    if not verdict.holds:
        what = verdict.sentence
    elif measured and verdict.found not in measured:
        what = f"version {verdict.version} of {verdict.model} does not hold what the ledger says"
    elif verdict.proof is not None and verdict.proof.refuses:
        what = f"version {verdict.version} of {verdict.model}: {verdict.proof.sentence}"
        raise HoneError(f"{what}; {done}", where=place, do=what_to_do())
    else:
        return verdict.found
    raise HoneError(f"{what}; {done}", where=place, do="choose another version")
