"""Promote a version that is in the registry already: by approval, or by its evidence."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ...recipe.errors import InputError
from ..todays_champion import NO_CHAMPION
from . import names
from .alias import move_alias
from .approvals import approve
from .ledger import Action, Entry
from .lookup import existing_version, require_model, version_of
from .registry import require_compared
from .turn import Turn


def promote_version(
    uri: str,
    model: str,
    version: str,
    *,
    who: str,
    reason: str,
    alias: str = "champion",
    wait: float = 120,
) -> Entry:
    """Move an alias to a registered version.

    A version whose approval was asked for is approved. Another one needs evidence: a digest of what
    was measured, and a verdict in which every gate has a value and passed.

    Args:
        uri: The tracking server, which is the registry too.
        model: The registered model.
        version: Its version.
        who: A person or an account.
        reason: Why.
        alias: The alias, if no approval was asked for (a request names its own).
        wait: How long to wait for other changes of this model, and for a server that is away (s).

    Returns:
        The entry of the ledger.

    Raises:
        InputError: There is no such version, it has no evidence, or its approval doesn't hold.
        HoneError: Its files are not those that were measured.
    """
    import mlflow

    client = mlflow.MlflowClient(uri, registry_uri=uri)
    require_model(client, uri, model)
    found = existing_version(client, model, version)
    if names.APPROVAL_REQUEST in found.tags:
        return approve(uri, model, version, who, reason, wait)

    def choose(client: Any, _: Turn) -> str:
        _require_evidence(client, existing_version(client, model, version), model)
        return version

    _require_evidence(client, found, model)
    return move_alias(
        uri,
        model,
        choose,
        alias=alias,
        action=Action.PROMOTE,
        who=who,
        reason=reason,
        wait=wait,
        done="nothing was promoted",
    )


def _require_evidence(client: Any, found: Any, model: str) -> None:
    """Refuse a version that was not measured, whose gates did not all pass, or whose gates compared
    it with another champion than today's.
    """
    where, tags = f"models:/{model}/{found.version}", dict(found.tags)
    do = (
        "register it by a run of Hone: hone run, or the flow optimize for a model trained elsewhere"
    )
    for name in (names.DIGEST, names.VERDICT, names.PARENT_RUN):
        if name not in tags:
            raise InputError(
                f"the version has no evidence that it was measured: it lacks the tag {name}",
                where=where,
                do=do,
            )
    try:
        gates = _VERDICT.validate_json(tags[names.VERDICT])
    except ValidationError:
        raise InputError("its verdict can't be read", where=where, do=do) from None
    for gate in gates:
        absent = gate.champion == NO_CHAMPION  # it passed because there was none to compare with
        if not gate.passed or (gate.value is None and not absent):
            said = "has no value" if gate.value is None else "failed"
            raise InputError(f"its gate {gate.metric} {said}", where=where, do=do)
        if gate.champion is not None:
            current = version_of(client, model, gate.alias)
            require_compared(current, gate.champion, model, gate.alias)


class _Gate(BaseModel):
    """What a verdict says of a gate; other fields are for people."""

    model_config = ConfigDict(extra="ignore", strict=True)
    metric: str
    value: float | None
    passed: bool
    champion: str | None = None
    alias: str = "champion"


_VERDICT = TypeAdapter(list[_Gate])
