"""Promote: the winner into the model registry, as a task of its own in the flow run."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from ...recipe.errors import ServerUnreachable
from ...tasks.tracking.registry import Promotable, Promotion, promote

_PATIENCE = 60.0  # s that a try waits for a server that is away


def _is_worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """A server that is away may come back; bytes that differ, or a refusal, stay as they are."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, ServerUnreachable)


@task(
    name="promote",
    task_run_name="promote",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=_is_worth_a_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def promote_task(tracking: str, promotable: Promotable) -> Promotion:
    """Register a logged model, and move the alias to it once its bytes were compared.

    Args:
        tracking: MLflow, which is the registry too.
        promotable: The model, and where it goes.

    Raises:
        HoneError: MLflow holds other bytes than those that were measured.
        ServerUnreachable: It stayed away.
    """
    return promote(tracking, promotable, wait=_PATIENCE)
