"""The base of every model of the recipe: frozen, and no unknown field; what its fields share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

#: Error codes of our own validators begin so: their sentences are complete as they are.
OWN_CODE = "hone."
#: Kind of the passes and targets that are the user's own.
IMPORT = "import"
IMPORT_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


@dataclass(frozen=True)
class NamesCode:
    """Marks a string field that names code of the user: `Recipe.factories` finds it by this.

    Attributes:
        always: It holds an import path; else an import path or a name of ours, without a colon.
    """

    always: bool = True


#: `module:function`, code of the user's.
ImportPath = Annotated[str, StringConstraints(pattern=IMPORT_PATH), NamesCode()]
#: `module`, or `module:name`, code of the user's.
ModulePath = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?$"),
    NamesCode(),
]
#: A name of ours, or an import path.
NameOrPath = Annotated[str, NamesCode(always=False)]


def short_name(path: str) -> str:
    """What code of the user's is called in MLflow and in tables: the last part of its path.

    A name of ours, which has no colon and no dot, stays as it is.
    """
    return path.rpartition(":")[2].rpartition(".")[2]


def name_of(spec: dict[str, Any]) -> str:
    """What a pass or target is called, of its plain data: its kind, or the user's own name."""
    return short_name(spec["factory"]) if spec["kind"] == IMPORT else str(spec["kind"])


class Strict(BaseModel):
    """A frozen model that refuses fields it doesn't know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def mistake(code: str, text: str, /, **values: Any) -> PydanticCustomError:
    """What a validator of the recipe raises: a sentence that needs no other words around it.

    Args:
        code: What kind of mistake, in a word.
        text: The sentence, with `{name}` for each value.
        values: What came, and what was expected.
    """
    return PydanticCustomError(f"{OWN_CODE}{code}", text, values or None)


def import_paths(model: Strict, where: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every import path that a model names, each with its field (`train.loss`)."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        mark = next((m for m in info.metadata if isinstance(m, NamesCode)), None)
        if mark is not None and isinstance(value, str) and (mark.always or ":" in value):
            yield value, ".".join((*where, name))
        for key, inner in _models(value):
            yield from import_paths(inner, (*where, name, *key))


def _models(value: Any) -> Iterator[tuple[tuple[str, ...], Strict]]:
    if isinstance(value, Strict):
        yield (), value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            for key, inner in _models(item):
                yield (str(index), *key), inner
