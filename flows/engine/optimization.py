"""Optimization: a recipe's variants and targets for a model that is trained already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ...ray_workers.scratch import scratch_folder
from ...ray_workers.store.file_names import WEIGHTS
from ...recipe.factories import READERS
from ...recipe.schema import Recipe
from ...tasks.tracking.trained_weights import download_trained_weights
from .request import AS_IN_RECIPE, PromotionChoice, open_request
from .session import Session


def open_optimization(
    model: str,
    recipe: str,
    overrides: Sequence[str] = (),
    promotion: PromotionChoice = AS_IN_RECIPE,
    redo: Sequence[str] = (),
) -> tuple[Recipe, Session]:
    """The recipe with a trained model in the place of its own, and its session.

    A recipe whose model is a factory gets the weights that Hone trained for the version or run; one
    whose model is a `source` gets the registered model itself. Nothing is trained but by passes.

    Args:
        model: `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN`.
        recipe: Name, file or text.
        overrides: As `FIELD=VALUE`.
        promotion: What is done with the winner.
        redo: Steps to compute again.

    Raises:
        RecipeError: The recipe has mistakes.
        InputError: There is no such model, or the worker doesn't allow what the recipe names.
    """
    uri = model.strip()
    changes = [*overrides, "train.epochs=0"]
    with_weights = [*changes, f"model.weights={json.dumps(uri)}"]
    loaded, session = open_request(recipe, with_weights, promotion, redo)
    if loaded.model.factory in READERS:
        source = f"model={json.dumps({'source': uri})}"
        return open_request(recipe, [*changes, source], promotion, redo)
    with scratch_folder("weights") as folder:
        found = download_trained_weights(uri, session.settings.tracking, str(folder), "model")
        into = Path(folder) / "kept"
        into.mkdir()
        found.rename(into / WEIGHTS)
        session.kept[uri] = f"{session.store.put(into, 'weights').uri}/{WEIGHTS}"
    return loaded, session
