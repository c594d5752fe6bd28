"""Approvals: a version that waits for a person, and what the person's word is worth later.

The request is a tag of the version, with everything that the decision was taken on: the digest of
its bytes, its verdict, and the version that was the champion. The approval is another tag, which a
person sets in MLflow's page or with `hone approve`. No process waits. A promotion by approval
checks that nothing of this has changed since, and that it comes in time.
"""

from __future__ import annotations

import time
from typing import Any

from pydantic import Field, ValidationError

from ...recipe.errors import InputError
from ...recipe.strict import Strict
from . import names
from .alias import move_alias
from .away import insist
from .ledger import Action, Entry
from .lookup import existing_version, number_of, require_model, version_of
from .registry import Promotable, Registered, register, require_compared
from .turn import Turn

#: Values of the tag `hone.approval`; what a person writes begins with one of the last two.
REQUESTED = "requested"
APPROVED = "approved"
REJECTED = "rejected"
DAYS = 7.0  # that an approval may take


class ApprovalRequest(Strict):
    """What a person is asked to approve.

    Attributes:
        alias: The alias to move.
        current: The version that had it when the request was made; None if none had.
        digest: Of all files of the version.
        asked_at: When (s since 1970).
        days: How long the answer may take.
    """

    alias: str
    current: str | None
    digest: str
    asked_at: float
    days: float = Field(DAYS, gt=0)

    @property
    def ends_at(self) -> float:
        return self.asked_at + self.days * 86_400


def request_approval(
    uri: str, asked: Promotable, wait: float = 120, days: float = DAYS
) -> Registered:
    """Register a version, and ask a person to approve its promotion.

    Raises:
        HoneError: MLflow's copy is not what was measured.
        ServerUnreachable: The server stayed away.
    """
    import mlflow

    client = mlflow.MlflowClient(uri, registry_uri=uri)
    current = version_of(client, asked.model, asked.alias)
    if current is None or dict(current.tags).get(names.DIGEST) != asked.digest:
        require_compared(current, asked.compared_with, asked.model, asked.alias)
    request = ApprovalRequest(
        alias=asked.alias,
        current=number_of(current),
        digest=asked.all_tags[names.DIGEST],
        asked_at=time.time(),
        days=days,
    )
    tags = {names.APPROVAL_REQUEST: request.model_dump_json(), names.APPROVAL: REQUESTED}
    return register(uri, asked, tags, wait)


def open_request_of(client: Any, model: str, version: str) -> ApprovalRequest:
    """The request that a version carries, if it still holds.

    Raises:
        InputError: It carries none, the champion or the bytes are others now, or it is too late.
    """
    where = f"models:/{model}/{version}"
    found = existing_version(client, model, version)
    request = _request_of(client, model, version)
    now = _not_there(client, model, version, request.alias)
    if now != request.current:
        raise InputError(
            f"the approval was asked for when version {request.current or 'none'} was the "
            f"{request.alias}; now it is version {now or 'none'}",
            where=where,
            do="run the recipe again: its gates are then judged against today's champion",
        )
    if found.tags.get(names.DIGEST) != request.digest:
        raise InputError(
            "the version is not what the approval was asked for: its digest is another",
            where=where,
            do="run the recipe again",
        )
    _not_rejected(found, where)
    if time.time() > request.ends_at:
        raise InputError(
            f"the approval had {request.days:g} days, and they are over",
            where=where,
            do="run the recipe again, which measures again and asks again",
        )
    return request


def approve(uri: str, model: str, version: str, who: str, reason: str, wait: float = 120) -> Entry:
    """Promote a version whose approval was asked for.

    Args:
        uri: The tracking server, which is the registry too.
        model: The registered model.
        version: Its version.
        who: The person who approves.
        reason: Why.
        wait: How long to wait for other changes of this model, and for a server that is away (s).

    Returns:
        The entry of the ledger.

    Raises:
        InputError: Nobody asked for it, what it was about has changed since, or it is too late.
        HoneError: The version's files are not those that were measured.
    """
    import mlflow

    client = mlflow.MlflowClient(uri, registry_uri=uri)
    require_model(client, uri, model)
    request = _request_of(client, model, version)

    def choose(client: Any, _: Turn) -> str:
        open_request_of(client, model, version)  # again, now that nobody else can move the alias
        return version

    entry = move_alias(
        uri,
        model,
        choose,
        alias=request.alias,
        action=Action.APPROVE,
        who=who,
        reason=reason,
        wait=wait,
        done="nothing was promoted",
    )
    client.set_model_version_tag(
        model, version, names.APPROVAL, f"{APPROVED} by {who}: {reason}"[:500]
    )
    return entry


def reject(uri: str, model: str, version: str, who: str, reason: str, wait: float = 120) -> None:
    """Turn a version down whose approval was asked for; no alias moves, now or later.

    It may come late, and after another version became the champion: then it says for good what
    would not be promoted anyway.

    Raises:
        InputError: Nobody asked for it, it was rejected before, it has the alias already, or no
            reason was given.
    """
    import mlflow

    if not reason.strip():
        raise InputError("a rejection needs a reason", where="reason")
    client = mlflow.MlflowClient(uri, registry_uri=uri)

    def work() -> None:
        require_model(client, uri, model)
        request = _request_of(client, model, version)
        _not_there(client, model, version, request.alias)
        _not_rejected(existing_version(client, model, version), f"models:/{model}/{version}")
        text = f"{REJECTED} by {who}: {reason}"[:500]
        client.set_model_version_tag(model, version, names.APPROVAL, text)

    insist(work, uri, wait, "nothing was rejected")


def _not_there(client: Any, model: str, version: str, alias: str) -> str | None:
    """The version that has the alias now; refused if it is this one."""
    now = number_of(version_of(client, model, alias))
    if now == version:
        raise InputError(f"version {version} of {model} is the {alias} already")
    return now


def _not_rejected(found: Any, where: str) -> None:
    if (said := found.tags.get(names.APPROVAL, "")).startswith(REJECTED):
        raise InputError(
            f"the version was {said}",
            where=where,
            do="run the recipe again; or, if that was a mistake, delete the version's tag "
            f"{names.APPROVAL}",
        )


def _request_of(client: Any, model: str, version: str) -> ApprovalRequest:
    found = existing_version(client, model, version)
    try:
        return ApprovalRequest.model_validate_json(found.tags.get(names.APPROVAL_REQUEST, ""))
    except ValidationError:
        raise InputError(
            "nobody asked for an approval of this version",
            where=f"models:/{model}/{version}",
            do="run its recipe with promotion: approve",
        ) from None
