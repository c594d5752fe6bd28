"""The flow: promote a version that is in the registry, or approve one that waits for it.

No `from __future__ import annotations` here: see `accelerate.py`.
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from .engine.champion_change import promote_by_hand
from .engine.pipeline import told_by_state


@flow(
    name="promote",
    description="Move the alias to a registered version, or approve one that waits for approval. "
    "Its files and evidence are verified first, and the change is entered in the ledger.",
    validate_parameters=True,
)
def promote(
    model: str,
    version: str,
    reason: str,
    who: str = "",
    alias: str = "champion",
) -> State[Any]:
    """Promote or approve a version of a registered model.

    Args:
        model: Name of the registered model.
        version: Number of its version.
        reason: Why, in words; it is kept in the ledger.
        who: The person who decides. Default: the account of the worker.
        alias: The alias to move. A version that waits for approval names its own.

    Raises:
        InputError: There is no such version, it has no evidence, or its approval doesn't hold.
        HoneError: Its files are not those that were measured.
    """
    return told_by_state(lambda: promote_by_hand(model, version, reason, who, alias))
