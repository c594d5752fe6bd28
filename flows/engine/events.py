"""Prefect events of Hone: what automations can react to. Changes of a champion are counted, too.

An event is about a registered model, the resource `hone.model.NAME`, or about a run,
`hone.run.ID`; Prefect adds the flow run that it comes from. Sending is Prefect's, in the
background: a run never fails for an event.

| event | when |
| --- | --- |
| `hone.candidate.proven` | a candidate won: measured, and every gate passed |
| `hone.gate.failed` | a candidate failed a gate; one event each candidate |
| `hone.champion.changed` | an alias was moved, by Hone or past it |
| `hone.approval.requested` | a version waits for a person |
| `hone.run.recovered` | a flow run that a dead process left unfinished was ended |
"""

from __future__ import annotations

import contextlib
from typing import Any

from ...recipe.schema import Recipe
from ...tasks.outcome import CandidateStatus, Outcome
from ...tasks.tracking.ledger import Action, Record
from ...tasks.tracking.registry import Promotable, Promotion, Registered
from . import run_count

PROVEN = "hone.candidate.proven"
GATE_FAILED = "hone.gate.failed"
CHAMPION_CHANGED = "hone.champion.changed"
APPROVAL_REQUESTED = "hone.approval.requested"
RECOVERED = "hone.run.recovered"


def candidates_judged(recipe: Recipe, outcome: Outcome) -> None:
    """Which candidate won, and which gates the others failed."""
    model = recipe.registry.model
    common = {"recipe": outcome.recipe, "recipe_digest": outcome.recipe_digest,
              "mlflow_run": outcome.run_id}  # fmt: skip
    for candidate in outcome.candidates:
        if candidate.status is CandidateStatus.GATED:
            failed = [gate.model_dump(mode="json") for gate in candidate.gates if not gate.passed]
            _emit(GATE_FAILED, model, candidate=candidate.name, gates=failed, **common)
    winner = outcome.winning
    if winner is not None:
        sha256 = winner.artifact.sha256 if winner.artifact is not None else None
        _emit(PROVEN, model, candidate=winner.name, sha256=sha256, why=outcome.why,
              metrics=winner.metrics, **common)  # fmt: skip


def champion_changed(model: str, record: Record) -> None:
    """An alias was moved, as the ledger has it."""
    run_count.champion_changed(model, record)
    _emit(
        CHAMPION_CHANGED,
        model,
        alias=record.alias,
        before=record.before,
        after=record.after,
        who=record.who,
        why=record.why,
        how=record.event.value,
        evidence=record.evidence,
    )


def promoted(asked: Promotable, promotion: Promotion) -> None:
    """A run promoted its winner, unless it was the champion already."""
    if promotion.new or promotion.previous is not None:
        run_count.moved(asked.model, promotion.alias, Action.PROMOTE.value)
        _emit(CHAMPION_CHANGED, asked.model, alias=promotion.alias, before=promotion.previous,
              after=promotion.version, who=asked.who, why=asked.why, how="done",
              evidence=asked.all_tags)  # fmt: skip


def approval_requested(asked: Promotable, found: Registered) -> None:
    """A version waits for a person."""
    _emit(APPROVAL_REQUESTED, asked.model, version=found.version, alias=found.alias,
          current=found.current, evidence=asked.all_tags)  # fmt: skip


def run_recovered(run_id: str) -> None:
    """A flow run whose process was gone was ended; what it had done is kept for the next one."""
    _send(RECOVERED, {"prefect.resource.id": f"hone.run.{run_id}"}, {"flow_run": run_id})


def _emit(event: str, model: str, **payload: Any) -> None:
    resource = {"prefect.resource.id": f"hone.model.{model}", "prefect.resource.name": model}
    for label in ("alias", "version", "candidate", "how"):
        if payload.get(label) is not None:
            resource[f"hone.{label}"] = str(payload[label])
    _send(event, resource, payload)


def _send(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
    from prefect.events import emit_event
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        return  # Prefect would start a server only for this
    with contextlib.suppress(Exception):  # too large, or no server: the run goes on
        emit_event(event, resource, payload=payload)
