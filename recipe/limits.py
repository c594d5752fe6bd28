"""How large the text of a recipe may be, and what plain values may stand in it.

A recipe is a page of text, and comes from a form or an event too. Whatever is far larger, deeper
or stranger is refused with a sentence before it costs time: YAML is counted as a stream of events,
each alias with all that it stands for, before anything is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from yaml.error import MarkedYAMLError

#: Of a file or a text (characters).
LARGEST = 200_000
#: Fields, items and values in a recipe, aliases spread out (a count).
MOST_VALUES = 10_000
#: Levels of fields within fields.
DEEPEST = 50
_LONGEST_TEXT = 20_000
_LONGEST_WORD = 100
_LARGEST_NUMBER = 2**63 - 1
_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")
)
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_NUMBER = re.compile(r"[-+.\d_eE]+")
_DOTTED = re.compile(rf"(?<![\w\"'-])(?:[\w\"'-]+\s*\.\s*){{{DEEPEST},}}")


class TooMuch(MarkedYAMLError):
    """A YAML text beyond the limits."""


def check_yaml(text: str, loader: Any) -> None:
    """Refuse a YAML text beyond the limits, without building it.

    Raises:
        yaml.YAMLError: It is beyond them, or is no YAML.
    """
    check_length(text)
    count = 0
    inside: list[tuple[str | None, int]] = []
    sizes: dict[str, int] = {}
    events: Iterator[Any] = yaml.parse(text, Loader=loader)
    for event in events:
        problem: str | None = None
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(str(event.anchor), 1)
            if any(event.anchor == anchor for anchor, _ in inside):
                problem = f"the anchor '{event.anchor}' contains itself"
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            problem = _odd_node(event)
            if isinstance(event, yaml.CollectionStartEvent):
                inside.append((event.anchor, count))
            elif event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = inside.pop()
            if anchor is not None:
                sizes[anchor] = count - before + 1
        if len(inside) > DEEPEST:
            problem = f"it is nested more than {DEEPEST} levels deep"
        if count > MOST_VALUES:
            problem = f"it has more than {MOST_VALUES:,} values"
        if problem is not None:
            raise TooMuch(problem=problem, problem_mark=event.start_mark)


def check_length(text: str) -> None:
    """Refuse a text that is longer than any recipe.

    Raises:
        TooMuch: It is.
    """
    if len(text) > LARGEST:
        raise TooMuch(problem=f"it is longer than {LARGEST:,} characters")


def too_deep_toml(text: str) -> bool:
    """Whether a TOML text has a key of more parts than levels are allowed.

    Reading one takes time that grows with the square of its length.
    """
    return _DOTTED.search(text) is not None


def _odd_node(event: Any) -> str | None:
    """What is wrong with a node by itself, as a clause."""
    if event.tag not in (None, "!", *_TAGS):
        return f"the tag '{str(event.tag)[:60]}' is not supported"
    if isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
        word = event.value
        if len(word) > _LONGEST_WORD and _NUMBER.fullmatch(word):
            return f"the number {word[:10]}... has {len(word):,} digits"
    return None


def is_word(text: str) -> bool:
    """Whether a plain scalar is short enough to be a number or another word with a meaning."""
    return len(text) <= _LONGEST_WORD


def odd_value(values: Any) -> tuple[tuple[str | int, ...], str] | None:
    """The first of some plain values that can't be in a recipe, and why as a clause; None if none.

    Args:
        values: Dictionaries, lists and scalars, and models of them.
    """
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), values)]
    count = 0
    while waiting:
        path, value = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            return (), f"it has more than {MOST_VALUES:,} values"
        if len(path) > DEEPEST:
            return path[:3], f"it is nested more than {DEEPEST} levels deep"
        problem: str | None = None
        if isinstance(value, BaseModel):
            value = dict(value)
        if isinstance(value, dict):
            problem = next((said for key in value if (said := _odd_text(str(key)))), None)
            below = [((*path, str(key)), inner) for key, inner in value.items()]
            waiting += reversed(below)
        elif isinstance(value, list | tuple):
            waiting += [((*path, i), value[i]) for i in range(len(value) - 1, -1, -1)]
        elif isinstance(value, str):
            problem = _odd_text(value)
        elif isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
            problem = f"the number is too large: more than {_LARGEST_NUMBER:,}"
        if problem is not None:
            return path, problem
    return None


def too_large(values: Any) -> tuple[tuple[str | int, ...], str] | None:
    """Where plain values are together longer than any recipe, and that as a clause; None if not.

    The field that is told is the deepest one that is too large by itself.
    """
    path: tuple[str | int, ...] = ()
    size = _size(values)
    if size <= LARGEST:
        return None
    while isinstance(values, dict) and values:
        key = max(values, key=lambda name: _size(values[name]))
        if _size(values[key]) <= LARGEST // 2:
            break
        path, values = (*path, str(key)), values[key]
    return path, (
        f"it has {size:,} characters, and a recipe at most {LARGEST:,}: write large values into a "
        "file that your factory reads"
    )


def _size(values: Any) -> int:
    """Length of plain values as text (characters)."""
    if isinstance(values, dict):
        return sum(len(str(key)) + _size(value) for key, value in values.items())
    if isinstance(values, list | tuple):
        return sum(map(_size, values))
    return len(str(values))


def _odd_text(text: str) -> str | None:
    if len(text) > _LONGEST_TEXT:
        return f"the text is longer than {_LONGEST_TEXT:,} characters"
    found = _UNSEEN.search(text)
    return f"the text has the character U+{ord(found[0]):04X}, which is none" if found else None
