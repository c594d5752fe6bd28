"""The flow that looks for what the registry's events did not bring: lost ones, and other hands."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from .engine.settings import Settings
from .operate.reconciling import reconcile_registry


@flow(
    name="reconcile",
    description="Start what lost events of the model registry should have started, once each.",
    validate_parameters=True,
)
def reconcile(rules: str = "") -> State[Any]:
    """Look through the model registry, and start what the rules name and nobody has started.

    Args:
        rules: The rules, as text; or a rules file in a folder that the worker allows. Empty: the
            file that HONE_RULES names where the worker runs.

    Raises:
        InputError: The rules have a mistake, or name a deployment that does not exist.
        ServerUnreachable: MLflow or Prefect does not answer.
    """
    found = reconcile_registry(rules, Settings.from_environment())
    text = found.text
    return Failed(message=text) if found.problems else Completed(message=text)
