"""What a flow's parameters ask for: a recipe, and the session that it runs in.

The parameters are flat, so that Prefect's form of a deployment is a form that people can fill in: a
recipe is one line of text, and beside it stand overrides of single fields, as after `--set`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from ...recipe.access_policy import AccessPolicy, Origin
from ...recipe.errors import InputError, RecipeError, did_you_mean
from ...recipe.load import apply_overrides, bundled_recipes, find_recipe, parse_recipe
from ...recipe.schema import Recipe
from ...recipe.text import Source, read_source, read_text
from ..logs import use_log_format
from .blocks import flow_settings
from .deployed_recipe import PREFIX, open_kept
from .session import Session, in_session, new_session, open_store


def as_text(value: Any) -> Any:
    """A recipe object or a mapping as the JSON text that the parameter takes."""

    if isinstance(value, Recipe):
        return value.model_dump_json(exclude_unset=True)
    return json.dumps(value) if isinstance(value, dict) else value


#: Whatever names a recipe, as one line of text or a whole recipe's.
RecipeText = Annotated[str, BeforeValidator(as_text)]
PromotionChoice = Literal["as in the recipe", "off", "dry-run", "approve", "auto"]
AS_IN_RECIPE: PromotionChoice = "as in the recipe"


def open_request(
    recipe: str,
    overrides: Sequence[str] = (),
    promotion: PromotionChoice = AS_IN_RECIPE,
    redo: Sequence[str] = (),
    origin: Origin = Origin.PARAMETER,
) -> tuple[Recipe, Session]:
    """The recipe that a flow's parameters name, and its session.

    A command has loaded the recipe and made the session before it starts the flow; its parameters
    then only show what was asked for.

    Raises:
        RecipeError: The recipe has mistakes.
        InputError: It names what this worker doesn't allow.
    """
    use_log_format()
    given = in_session()
    if given is not None:
        return given.recipe, given
    settings = flow_settings()
    changes = [o for o in overrides if o.strip()]
    if promotion != AS_IN_RECIPE:
        changes.append(f"promotion={promotion}")
    access = AccessPolicy.from_environment(origin)
    text, kept = recipe.strip(), dict[str, str]()
    place: Path | None
    if text.startswith(PREFIX):
        file, kept = open_kept(text, open_store(settings))
        source, place = read_source(file, name="recipe"), file.parent
        access = access.model_copy(update={"paths": (*access.paths, str(file.parent))})
    else:
        source, place = _source(text, access)
    loaded = parse_recipe(apply_overrides(source, changes))
    if settings.gates and not loaded.gates:
        usual = f"gates={json.dumps(list(settings.gates))}"
        loaded = parse_recipe(apply_overrides(source, [*changes, usual]))
    code = _code(loaded, place, access)
    session = new_session(loaded, code=code, place=place, origin=origin, redo=redo)
    session.kept.update(kept)
    return session.recipe, session


def _source(text: str, access: AccessPolicy) -> tuple[Source, Path | None]:
    """The text of a recipe, and the folder that it lies in if it is a file of the worker's."""
    if text.startswith("{") or "\n" in text:
        return read_text(text, "recipe"), None
    if text in bundled_recipes():
        return read_source(bundled_recipes()[text], name=text), None
    if not text:
        raise RecipeError("give a recipe", where="recipe", do="its name, file or text")
    if "/" not in text and not Path(text).suffix:
        raise RecipeError(
            f"there is no bundled recipe '{text}': {did_you_mean(text, bundled_recipes())}",
            where="recipe",
            do="give its name, a file in a folder that this worker allows, or the whole recipe",
        )
    path = access.file(find_recipe(access.recipe_file(text, "recipe")), f"recipe: {text}")
    return read_source(path, name=text), path.parent


def _code(recipe: Recipe, place: Path | None, access: AccessPolicy) -> Path | None:
    """The code folder of a recipe file, which lies where this worker allows recipes to lie.

    Raises:
        InputError: The recipe came as text, or its folder is not allowed or not there.
    """
    if recipe.code is None:
        return None
    if place is None:
        raise InputError(
            "a code folder is only for a recipe file, and this recipe came as text",
            where="code",
            do="give the path of a file in a folder of HONE_ALLOWED_PATHS; or install the code on "
            "the workers, allow it with HONE_ALLOWED_PREFIXES, and leave `code` out",
        )
    folder = Path(access.place(recipe.code, "code", base=place))
    if not folder.is_dir():
        raise InputError(
            "there is no such folder", where=f"code: {folder}", do="give the folder of your code"
        )
    return folder
