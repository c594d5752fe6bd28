"""The ledger of a registered model: who changed its champion, when, why, from what and to what.

It is kept in the registry itself, as the versions of a registered model `NAME.ledger`. MLflow
numbers versions without duplicates, whoever creates them at once, and writes a version with its
tags in one transaction. So entries have one order that everybody sees, on every store: the ledger
is also what keeps two promotions apart (`turn.py`). Entries are added, never changed.

Whoever may write the registry may also write entries. The ledger shows what happened among honest
writers; it doesn't prove it against a dishonest one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import Field, ValidationError

from ...recipe.strict import Strict
from . import names

_PAGE = 1000


class Event(StrEnum):
    """What an entry says."""

    INTENT = "intent"  # somebody wants to move an alias, and waits for their turn
    DONE = "done"  # the alias was moved; closes the intent
    ABORTED = "aborted"  # no alias was moved; closes the intent
    OBSERVED = "observed"  # the alias was moved past Hone


class Action(StrEnum):
    """What an intent is for."""

    REGISTER = "registration"  # no alias is moved
    PROMOTE = "promote"
    APPROVE = "approval"
    ROLLBACK = "rollback"
    REPAIR = "repair"


class Record(Strict):
    """The content of an entry.

    Attributes:
        event: What it says.
        action: Of the intent.
        intent: Id of the intent that it opens or closes.
        alias: The alias.
        before: The version that had the alias; None if there was none, or in an intent.
        after: The version that has it now, or is to get it; None if there is none.
        who: A person or an account.
        why: The reason, in words.
        owner: The process of an intent, as `liveness.Owner` in JSON.
        evidence: Digests of what was measured, by name.
    """

    event: Event
    action: Action = Action.PROMOTE
    intent: str = Field("", max_length=64)
    alias: str = Field(max_length=300)
    before: str | None = None
    after: str | None = None
    who: str = Field("", max_length=300)
    why: str = Field("", max_length=2000)
    owner: str = Field("", max_length=2000)
    evidence: dict[str, str] = Field(default_factory=dict)

    @property
    def sentence(self) -> str:
        moved = f"{self.alias}: {self.before or 'none'} → {self.after or 'none'}"
        said = {
            Event.INTENT: f"{self.action} for {self.alias}, asked by {self.who}",
            Event.DONE: f"{moved}, {self.action} by {self.who}",
            Event.ABORTED: f"the {self.action} by {self.who} moved no alias",
            Event.OBSERVED: f"{moved}, past Hone",
        }[self.event]
        return f"{said}: {self.why}" if self.why else said


@dataclass(frozen=True)
class Entry:
    """An entry.

    Attributes:
        number: Its place; later entries have higher numbers.
        time_ms: When it was added, by the registry's clock.
        record: What it says.
    """

    number: int
    time_ms: int
    record: Record


def new_intent() -> str:
    """An id for an intent."""
    return uuid.uuid4().hex


def ledger_name(model: str) -> str:
    """The registered model that a model's ledger is kept in."""
    return f"{model}.ledger"


class Ledger:
    """The ledger of one registered model.

    Args:
        client: MLflow's client.
        model: The registered model.
    """

    def __init__(self, client: Any, model: str) -> None:
        self._client = client
        self.model = model
        self._name = ledger_name(model)

    def append(self, record: Record) -> None:
        """Add an entry; its number is the registry's to give."""
        from mlflow.exceptions import MlflowException

        def add() -> None:
            self._client.create_model_version(
                self._name,
                source=f"hone-ledger:/{uuid.uuid4().hex}",
                tags={names.LEDGER: record.model_dump_json(exclude_defaults=True)},
                description=record.sentence,
            )

        try:
            add()
        except MlflowException as error:
            # A server with users refuses what it would say is missing to somebody who may write.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"):
                raise
            self._create()
            add()

    def entries(self) -> list[Entry]:
        """All entries, in order; versions that somebody else put there are left out."""
        found = [_entry(version) for version in all_versions(self._client, self._name)]
        return sorted((e for e in found if e is not None), key=lambda entry: entry.number)

    def done(self, intent: str) -> Entry | None:
        """The entry that says that an intent was carried out."""
        closing = (Event.DONE, Event.ABORTED)
        for entry in self.entries():
            if entry.record.intent == intent and entry.record.event in closing:
                return entry if entry.record.event is Event.DONE else None
        return None

    def _create(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(
                self._name,
                tags={names.KIND: "ledger"},
                description=f"The ledger of {self.model}: each version is an entry that Hone added "
                "when the champion changed. Nothing is served from here; don't delete it.",
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def all_versions(client: Any, model: str) -> list[Any]:
    """All versions of a registered model; none if there is no such model."""
    quote = '"' if "'" in model else "'"
    found: list[Any] = []
    token = None
    while True:
        page = client.search_model_versions(
            f"name = {quote}{model}{quote}", max_results=_PAGE, page_token=token
        )
        found += page
        token = getattr(page, "token", None)
        if not token:
            return found


def _entry(version: Any) -> Entry | None:
    try:
        record = Record.model_validate_json(dict(version.tags)[names.LEDGER])
    except (KeyError, ValidationError):
        return None
    return Entry(int(version.version), int(version.creation_timestamp), record)
