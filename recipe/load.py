"""From a file and `--set` options to a `Recipe`, or to an error that lists every mistake.

A mistake is reported with file, line and field, the given and the expected value and, for a
misspelled name, the closest valid one.
"""

from __future__ import annotations

import copy
import json
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .errors import RecipeError, did_you_mean, nearest
from .limits import DEEPEST, LARGEST, odd_value, too_large
from .schema import Recipe
from .strict import OWN_CODE
from .text import FieldPath, Source, parse_value, read_source, yaml_problem


def bundled_recipes() -> dict[str, Path]:
    """The bundled recipes by name: that of an example, and `EXAMPLE/NAME` of those beside it."""
    root = Path(str(resources.files(__package__))) / "examples"
    found = {path.parent.name: path for path in sorted(root.glob("*/recipe.yaml"))}
    beside = sorted(path for path in root.glob("*/*.yaml") if path.name != "recipe.yaml")
    return found | {f"{path.parent.name}/{path.stem}": path for path in beside}


def find_recipe(name: str | Path) -> Path:
    """The recipe's file: a path, or the name of a bundled example.

    Raises:
        RecipeError: There is no such file.
    """
    path = Path(name)
    try:
        if path.is_dir() and (path / "recipe.yaml").is_file():
            return path / "recipe.yaml"
        if path.exists():
            return path
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "this is not a path"
        raise RecipeError(f"the recipe can't be read: {said}", where=_cut(str(name))) from None
    bundled = bundled_recipes()
    if str(name) in bundled:
        return bundled[str(name)]
    raise RecipeError(
        "there is no such recipe",
        where=str(name),
        do=f"give a file, or the name of a bundled example ({', '.join(bundled)}); "
        "`hone init` writes a recipe to start from",
    )


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        path: A YAML or TOML file, a folder that holds `recipe.yaml`, or a bundled example's name.
        overrides: Options of the form `train.epochs=3`; the value is YAML.

    Raises:
        RecipeError: With every mistake that was found.

    Example:
        >>> load_recipe("digits", ["train.epochs=1"]).train.epochs
        1
    """
    found = find_recipe(path)
    source = read_source(found, name=str(path) if Path(path).exists() else str(found))
    return parse_recipe(apply_overrides(source, overrides))


def parse_recipe(source: Source) -> Recipe:
    """Validate plain values.

    Raises:
        RecipeError: With every mistake that was found.
    """
    odd = odd_value(source.values) or too_large(source.values)
    if odd is not None:
        shown = ".".join(map(str, odd[0])) or "recipe"
        raise RecipeError(f"{_cut(shown)}: {odd[1]}", where=_cut(source.where(odd[0])))
    try:
        # JSON mode is strict where Python mode coerces: "8" and true are not the number 8.
        text = json.dumps(source.values)
        return Recipe.model_validate_json(text, strict=True)
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise RecipeError(f"a value is not plain data: {error}", where=source.name) from None
        found = _sorted(error, source)
        mistakes = [_cut(_explain(item, source), 600) for item in found[:_MOST_SHOWN]]
        if len(found) > _MOST_SHOWN:
            mistakes.append(f"  and {len(found) - _MOST_SHOWN:,} more")
    count = f"{len(found):,} mistakes" if len(found) > 1 else "a mistake"
    raise RecipeError(f"{count} in the recipe\n" + "\n".join(mistakes))


def _sorted(error: ValidationError, source: Source) -> list[ErrorDetails]:
    """In the order of the file; without 'too short' for a list whose items have mistakes."""
    found = error.errors(include_url=False)
    above = {tuple(item["loc"])[:end] for item in found for end in range(len(item["loc"]))}
    kept = [f for f in found if f["type"] != "too_short" or tuple(f["loc"]) not in above]
    return sorted(kept, key=lambda item: source.line(_walk(item["loc"])[0]))


def apply_overrides(source: Source, overrides: Sequence[str]) -> Source:
    """The source with `a.b=c` options applied; list items go by index or by their `name`.

    Raises:
        RecipeError: An option that has no `=`, or whose path leads nowhere.
    """
    values = copy.deepcopy(source.values)
    overridden: dict[FieldPath, str] = {}
    if sum(map(len, overrides)) > LARGEST:
        raise RecipeError(
            f"the options together are longer than {LARGEST:,} characters",
            where="--set",
            do="write them into the recipe, and large values into a file that your factory reads",
        )
    for option in overrides:
        path, equals, text = option.partition("=")
        option, parts = _cut(option), path.strip().split(".")
        where = f"--set {option}"
        if not equals or not path.strip():
            raise RecipeError("expected FIELD=VALUE, as in train.epochs=3", where=where)
        if len(parts) > DEEPEST:
            raise RecipeError(f"the field has more than {DEEPEST} parts", where=where)
        try:
            value = parse_value(text)
        except yaml.YAMLError as error:
            said = f"the value is not valid YAML: {yaml_problem(error)}"
            raise RecipeError(said, where=where) from None
        overridden[_assign(values, parts, value, option)] = option
    return Source(source.name, values, source.lines, overridden)


def _assign(values: Any, parts: list[str], value: Any, option: str) -> FieldPath:
    place: Any = values
    path: FieldPath = ()
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        key: str | int = part
        if isinstance(place, list):
            key = _index(place, part, option)
        elif not isinstance(place, dict):
            raise RecipeError(
                f"'{'.'.join(map(str, path))}' is a value and has no field '{part}'",
                where=f"--set {option}",
            )
        path = (*path, key)
        if last:
            place[key] = value
        elif isinstance(place, dict):
            place = place.setdefault(str(key), {})
            if place is None:
                raise RecipeError("the field is empty", where=f"--set {option}")
        else:
            place = place[key]
    return path


def _index(items: list[Any], part: str, option: str) -> int:
    if re.fullmatch(r"[0-9]{1,6}", part) and int(part) < len(items):
        return int(part)
    names = [item.get("name") if isinstance(item, dict) else item for item in items]
    if part in names:
        return names.index(part)
    known = ", ".join(f"{i} ({name})" if name else str(i) for i, name in enumerate(names))
    raise RecipeError(f"there is no item '{part}'; there are {known}", where=f"--set {option}")


def _explain(error: ErrorDetails, source: Source) -> str:
    path, models = _walk(error["loc"])
    if error["type"] == f"{OWN_CODE}twice":
        path = (f"{error['ctx']['what']}s",)
    shown = ".".join(str(part) for part in path) or "recipe"
    return f"  {source.where(path)}: {_cut(shown)}: {_sentence(error, path, models)}"


def _sentence(error: ErrorDetails, path: FieldPath, models: list[type[BaseModel]]) -> str:
    kind, context, came = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "extra_forbidden":
        known = {name for model in models for name in model.model_fields}
        return f"there is no such field: {did_you_mean(str(path[-1]), known)}"
    if kind == "missing":
        return "this field is required"
    if kind in ("literal_error", "union_tag_invalid"):
        expected = str(context.get("expected") or context.get("expected_tags"))
        names = re.findall(r"'([^']*)'", expected)
        got = came
        if kind == "union_tag_invalid" and isinstance(came, dict):
            got = context.get("tag")
        if isinstance(got, str):
            match = nearest(got, names)
            meant = "" if match is None else f": did you mean '{match}'?"
            return f"'{got}' is not one of {expected}{meant}"
        return f"got {_shown(got)}, expected one of {expected}"
    if kind == "union_tag_not_found":
        return f"{context.get('discriminator')} is missing: it says which kind this is"
    if kind == "string_pattern_mismatch":
        return f"got {_shown(came)}, which {_PATTERNS.get(path[-1], 'has the wrong form')}"
    message = str(error["msg"])
    if kind.startswith(OWN_CODE) or isinstance(came, dict | list):
        return message
    return f"got {_shown(came)}: {message[0].lower() + message[1:]}"


#: Of a recipe with very many mistakes.
_MOST_SHOWN = 20


def _cut(text: str, longest: int = 200) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


_PATTERNS: dict[str | int, str] = {
    "factory": "is not an import path of the form 'module:function'",
    "name": "is not a name: lower-case letters, digits, '-' and '_', a letter or digit first",
    "model": "is not a name for a registered model: ':' and '/' can't be in it, nor @ ? # % \\ or "
    "quotes",
}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class _Option:
    """What may stand at a place in the recipe.

    Attributes:
        kind: A model, or another type.
        tags: What pydantic puts into a location to say that it is this member of a union.
    """

    kind: Any
    tags: frozenset[str] = frozenset()

    @property
    def fields(self) -> dict[str, FieldInfo]:
        return self.kind.model_fields if _is_model(self.kind) else {}


def _walk(location: Sequence[str | int]) -> tuple[FieldPath, list[type[BaseModel]]]:
    """The field path without the tags that pydantic puts in for unions, and the models there."""
    path: list[str | int] = []
    options = [_Option(Recipe)]
    models: list[type[BaseModel]] = [Recipe]
    for part in location:
        if isinstance(part, int):
            path.append(part)
            options = [inner for option in options for inner in _items(option.kind)]
            models = _models(options)
            continue
        tagged = [option for option in options if part in option.tags]
        holds = [option for option in options if part in option.fields]
        if tagged and not holds:
            options, models = tagged, _models(tagged)
            continue
        path.append(part)
        if not holds:
            return tuple(path), models
        parents = models
        options = [
            inner
            for option in holds
            for inner in _options(option.fields[part].annotation, _told_by(option.fields[part]))
        ]
        models = _models(options)
        if part == location[-1]:
            models = models or parents
    return tuple(path), models


def _models(options: list[_Option]) -> list[type[BaseModel]]:
    return [option.kind for option in options if _is_model(option.kind)]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _options(annotation: Any, told_by: frozenset[str] = frozenset()) -> list[_Option]:
    """The members of an annotation.

    Args:
        annotation: A type, a union, or an `Annotated` one.
        told_by: Discriminator fields of the unions around it.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        named = [_told_by(item) for item in more if isinstance(item, FieldInfo)]
        return _options(inner, told_by.union(*named))
    if origin in (Union, types.UnionType):
        return [option for arg in get_args(annotation) for option in _options(arg, told_by)]
    fields = annotation.model_fields if _is_model(annotation) else {}
    tags = {
        value
        for name in told_by & fields.keys()
        for value in get_args(fields[name].annotation)
        if isinstance(value, str)
    }
    return [_Option(annotation, frozenset(tags))]


def _told_by(info: FieldInfo) -> frozenset[str]:
    return frozenset({info.discriminator}) if isinstance(info.discriminator, str) else frozenset()


def _items(kind: Any) -> list[_Option]:
    args = get_args(kind)
    return _options(args[0]) if get_origin(kind) is tuple and args else []
