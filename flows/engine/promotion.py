"""Promote: the winner into the model registry, as a separate task in the flow run."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from ...recipe.errors import ServerUnreachable
from ...recipe.schema import PromotionMode
from ...tasks.tracking import names
from ...tasks.tracking.approvals import request_approval
from ...tasks.tracking.registry import Promotable, Promotion, Registered, promote, register
from .assets import materializing, tell_version

PATIENCE = 60.0  # s that a try waits for a server that is away


def is_worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """An unreachable server may come back; different bytes or a refusal would not change."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, ServerUnreachable)


#: Options of tasks that change the registry: tried again while the server is away, never cached.
ASKS_THE_REGISTRY: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 5,
    "retry_condition_fn": is_worth_a_retry,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


@materializing(
    name="promote",
    task_run_name="promote",
    **ASKS_THE_REGISTRY,
)
def promote_task(tracking: str, promotable: Promotable) -> Promotion:
    """Register a logged model, and move the alias to it after comparing its bytes.

    Args:
        tracking: MLflow, which is the registry too.
        promotable: The model, and where it goes.

    Raises:
        HoneError: MLflow's bytes differ from those that were measured.
        ServerUnreachable: The server stayed away.
    """
    promotion = promote(tracking, promotable, wait=PATIENCE)
    found = {**promotion.model_dump(), "sha256": promotable.sha256}
    tell_version(tracking, promotable.model, found)
    return promotion


@task(
    name="register",
    task_run_name="register",
    **ASKS_THE_REGISTRY,
)
def register_task(tracking: str, promotable: Promotable, mode: PromotionMode) -> Registered:
    """Register a logged model, and tag it with what is to become of it; no alias moves.

    Args:
        tracking: MLflow, which is the registry too.
        promotable: The model, and where a promotion would take it.
        mode: `dry-run` or `approve`.

    Raises:
        HoneError: MLflow's bytes differ from those that were measured.
        ServerUnreachable: The server stayed away.
    """
    if mode == "dry-run":
        move = f"a promotion would move the alias {promotable.alias} to this version"
        return register(tracking, promotable, {names.DRY_RUN: move}, wait=PATIENCE)
    return request_approval(tracking, promotable, wait=PATIENCE)
