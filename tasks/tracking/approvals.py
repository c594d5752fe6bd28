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
from .registry import Promotable, Registered, register
from .turn import version_of

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
    request = ApprovalRequest(
        alias=asked.alias,
        current=_holder(client, asked.model, asked.alias),
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
    found = client.get_model_version(model, version)
    try:
        request = ApprovalRequest.model_validate_json(found.tags.get(names.APPROVAL_REQUEST, ""))
    except ValidationError:
        raise InputError(
            "nobody asked for an approval of this version",
            where=where,
            do="run its recipe with promotion: approve; or `hone promote`, which says who and why",
        ) from None
    now = _holder(client, model, request.alias)
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
    if time.time() > request.ends_at:
        raise InputError(
            f"the approval had {request.days:g} days, and they are over",
            where=where,
            do="run the recipe again, which measures again and asks again",
        )
    return request


def _holder(client: Any, model: str, alias: str) -> str | None:
    found = version_of(client, model, alias)
    return None if found is None else str(found.version)
