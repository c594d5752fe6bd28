"""Changes of the champion that people ask for, as Prefect tasks in their flow run."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.tasks import MaterializingTask

from ...tasks.tracking.account import account
from ...tasks.tracking.ledger import Entry
from ...tasks.tracking.promote_version import promote_version
from ...tasks.tracking.rollback import rollback
from . import events
from .assets import materializing, of_model, tell_version
from .blocks import flow_settings
from .promotion import ASKS_THE_REGISTRY, PATIENCE


def promote_by_hand(model: str, version: str, reason: str, who: str, alias: str) -> State[Entry]:
    """Promote or approve a version in the current flow run.

    Raises:
        InputError: There is no such version, it has no evidence, or its approval doesn't hold.
        HoneError: Its files are not those that were measured.
    """
    return _changed(_promote, model.strip(), version.strip(), reason, who, alias)


def roll_back_by_hand(model: str, reason: str, version: str, who: str, alias: str) -> State[Entry]:
    """Go back to an earlier champion in the current flow run.

    Raises:
        InputError: There is nothing to go back to, or the version is not there any more.
        HoneError: Its files are not those that were measured.
    """
    return _changed(_roll_back, model.strip(), version.strip(), reason, who, alias)


def _changed(
    change: MaterializingTask[..., Any], model: str, version: str, reason: str, who: str, alias: str
) -> State[Entry]:
    tracking = flow_settings().tracking
    entry = of_model(change, tracking, model)(tracking, model, version, reason, who, alias)
    events.champion_changed(model, entry.record)
    return Completed(message=f"{model}: {entry.record.sentence}", data=entry)


@materializing(
    name="promote",
    task_run_name="promote {model} {version}",
    **ASKS_THE_REGISTRY,
)
def _promote(tracking: str, model: str, version: str, reason: str, who: str, alias: str) -> Entry:
    entry = promote_version(
        tracking, model, version, who=who or account(), reason=reason, alias=alias, wait=PATIENCE
    )
    return _told(tracking, model, entry)


@materializing(
    name="rollback",
    task_run_name="rollback {model}",
    **ASKS_THE_REGISTRY,
)
def _roll_back(tracking: str, model: str, version: str, reason: str, who: str, alias: str) -> Entry:
    entry = rollback(
        tracking, model, version or None, reason, who or account(), alias=alias, wait=PATIENCE
    )
    return _told(tracking, model, entry)


def _told(tracking: str, model: str, entry: Entry) -> Entry:
    record = entry.record
    found = {
        "version": record.after,
        "alias": record.alias,
        "previous": record.before,
        "who": record.who,
        "why": record.why,
    }
    tell_version(tracking, model, found)
    return entry
