"""The flow: start what lost events of the registry did not start, and keep the ledgers true.

No `from __future__ import annotations` here: see `accelerate.py`.
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from .engine.blocks import flow_settings
from .engine.pipeline import told_by_state
from .operate.reconciling import reconcile_registry


@flow(
    name="reconcile",
    description="Start what lost events of the model registry should have started, once each; and "
    "enter aliases that were moved past Hone in their ledgers.",
    validate_parameters=True,
)
def reconcile(rules: str = "") -> State[Any]:
    """Look through the model registry, and start what the rules name and nobody has started.

    Args:
        rules: The rules, as text; or a rules file in a folder that the worker allows. Empty: the
            file that HONE_RULES names where the worker runs; without one, approvals by tag.

    Raises:
        InputError: The rules have a mistake, or name a deployment that does not exist.
        ServerUnreachable: MLflow or Prefect does not answer.
    """
    return told_by_state(lambda: _reconcile(rules))


def _reconcile(rules: str) -> State[Any]:
    found = reconcile_registry(rules, flow_settings())
    if found.problems:
        return Failed(name="NotAllStarted", message=found.text)
    return Completed(message=found.text)
