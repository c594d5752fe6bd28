"""Checks that a model has the layers that a recipe names. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from ...recipe.errors import HoneError, StepFailed, did_you_mean


def require_layers(
    names: Iterable[str],
    known: Iterable[str],
    where: str,
    model: str = "model",
    error: type[HoneError] = StepFailed,
) -> None:
    """Refuse a layer that a model does not have.

    Args:
        names: That the recipe names.
        known: Of the model's layers.
        where: The field of the recipe.
        model: Which model it is.
        error: The error to raise, with the closest existing name.
    """
    have = set(known)
    for name in names:
        if name not in have:
            raise error(
                f"the {model} has no layer '{name}': {did_you_mean(name, have)}", where=where
            )
