"""The base of every model in a recipe: frozen, without unknown fields; types of its fields."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

from .errors import did_you_mean

#: Prefix of the error codes of Hone's validators, whose messages are complete sentences.
OWN_CODE = "hone."
#: Kind of the user's own passes and targets.
IMPORT = "import"
IMPORT_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


@dataclass(frozen=True)
class NamesCode:
    """Marks a string field that names the user's code; `Recipe.factories` finds it by this mark.

    Attributes:
        always: It holds an import path; else an import path or one of Hone's names (no colon).
    """

    always: bool = True


#: `module:function`, the user's code.
ImportPath = Annotated[str, StringConstraints(pattern=IMPORT_PATH), NamesCode()]
#: `module`, or `module:name`, the user's code.
ModulePath = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?$"),
    NamesCode(),
]
#: One of Hone's names, or an import path.
NameOrPath = Annotated[str, NamesCode(always=False)]


def short_name(path: str) -> str:
    """The name of user code in MLflow and in tables: the last part of its path.

    One of Hone's names, which has no colon and no dot, stays as it is.
    """
    return path.rpartition(":")[2].rpartition(".")[2]


class Strict(BaseModel):
    """A frozen model that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def mistake(code: str, text: str, /, **values: Any) -> PydanticCustomError:
    """The error that a validator of the recipe raises, as a complete sentence.

    Args:
        code: The kind of mistake, in one word.
        text: The sentence, with `{name}` for each value.
        values: The given and the expected values.
    """
    return PydanticCustomError(f"{OWN_CODE}{code}", text, values or None)


def one_of(value: str, known: Collection[str], what: str) -> str:
    """A name that must be known.

    Raises:
        PydanticCustomError: It is not; with the nearest that is.
    """
    if value not in known:
        raise mistake(
            "unknown_name",
            "there is no {what} '{value}': {hint}",
            what=what,
            value=value,
            hint=did_you_mean(value, known),
        )
    return value


def import_paths(model: Strict, where: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every import path that a model names, each with its field (`train.loss`)."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        mark = next((m for m in info.metadata if isinstance(m, NamesCode)), None)
        texts = (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()
        for index, text in enumerate(texts):
            if mark and isinstance(text, str) and (mark.always or ":" in text):
                yield text, ".".join((*where, name, *(() if text is value else (str(index),))))
        for key, inner in _models(value):
            yield from import_paths(inner, (*where, name, *key))


def _models(value: Any) -> Iterator[tuple[tuple[str, ...], Strict]]:
    if isinstance(value, Strict):
        yield (), value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            for key, inner in _models(item):
                yield (str(index), *key), inner
