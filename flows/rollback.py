"""The flow: go back to an earlier champion.

No `from __future__ import annotations` here: see `accelerate.py`.
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from .engine.champion_change import roll_back_by_hand
from .engine.pipeline import told_by_state


@flow(
    name="rollback",
    description="Move the alias back to an earlier champion at once. Its files are verified first, "
    "and the change is entered in the ledger.",
    validate_parameters=True,
)
def rollback(
    model: str,
    reason: str,
    version: str = "",
    who: str = "",
    alias: str = "champion",
) -> State[Any]:
    """Go back to an earlier version of a registered model.

    Args:
        model: Name of the registered model.
        reason: Why, in words; it is kept in the ledger.
        version: Number of the version to go back to. Empty: the champion before the present one.
        who: The person who decides. Default: the account of the worker.
        alias: The alias to move, if it is not champion.

    Raises:
        InputError: There is nothing to go back to, or the version is not there any more.
        HoneError: Its files are not those that were measured.
    """
    return told_by_state(lambda: roll_back_by_hand(model, reason, version, who, alias))
