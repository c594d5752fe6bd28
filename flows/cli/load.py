"""From a recipe file to a recipe and its session, for every command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...recipe.access_policy import AccessPolicy, Origin
from ...recipe.errors import InputError
from ...recipe.load import find_recipe, load_recipe
from ...recipe.schema import Recipe
from ..engine.observer import Observer
from ..engine.session import Session, new_session


def load_for_command(
    name: str,
    overrides: Sequence[str],
    observer: Observer | None = None,
    redo: Sequence[str] = (),
) -> tuple[Recipe, Session]:
    """Load a recipe that a person names, and allow it the code folder beside its file.

    Raises:
        RecipeError: It has mistakes.
        InputError: Its code folder does not exist, or a factory is not allowed.
    """
    recipe = load_recipe(name, overrides)
    place = find_recipe(name).parent.resolve()
    code: Path | None = None
    if recipe.code is not None:
        access = AccessPolicy(origin=Origin.COMMAND_LINE)
        code = Path(access.place(recipe.code, "code", base=place)).resolve()
        if not code.is_dir():
            raise InputError(
                "there is no such folder", where=f"code: {code}", do="give the folder of your code"
            )
    session = new_session(
        recipe,
        code=code,
        observer=observer,
        place=place,
        origin=Origin.COMMAND_LINE,
        redo=redo,
    )
    return session.recipe, session
