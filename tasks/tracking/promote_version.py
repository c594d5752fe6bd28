"""Promote a version that is in the registry already: by approval, or by its evidence."""

from __future__ import annotations

import json
from typing import Any

from ...recipe.errors import InputError
from . import names
from .alias import move_alias
from .approvals import approve
from .ledger import Action, Entry
from .lookup import existing_version, require_model
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
        _require_evidence(existing_version(client, model, version), model)
        return version

    _require_evidence(found, model)
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


def _require_evidence(found: Any, model: str) -> None:
    """Refuse a version that was not measured, or whose gates did not all pass."""
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
        gates = [(str(g["metric"]), g["value"], bool(g["passed"])) for g in json.loads(
            tags[names.VERDICT])]  # fmt: skip
    except (ValueError, TypeError, KeyError):
        raise InputError("its verdict can't be read", where=where, do=do) from None
    for metric, value, passed in gates:
        if value is None or not passed:
            said = "has no value" if value is None else "failed"
            raise InputError(f"its gate {metric} {said}", where=where, do=do)
