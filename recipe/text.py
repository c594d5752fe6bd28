"""The text of a recipe: YAML or TOML read into plain values, with the line of each field."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import RecipeError

FieldPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """Plain values, and where each was written.

    Attributes:
        name: The file's name as the user gave it.
        values: Dictionaries, lists and scalars.
        lines: Line (from 1) of each field path.
        overridden: For a field that `--set` gave: the option as it was typed.
    """

    name: str
    values: dict[str, Any]
    lines: dict[FieldPath, int] = field(default_factory=dict)
    overridden: dict[FieldPath, str] = field(default_factory=dict)

    def where(self, path: FieldPath) -> str:
        """`file:line`, or the `--set` that gave the field; of the nearest parent that is known."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overridden:
                return f"--set {self.overridden[path[:end]]}"
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return self.name

    def line(self, path: FieldPath) -> int:
        """Line of a field or of its nearest parent that is known; 0 where none is."""
        known = (path[:end] for end in range(len(path), -1, -1) if path[:end] in self.lines)
        return self.lines.get(next(known, ()), 0)


def read_source(path: Path, name: str | None = None) -> Source:
    """Read a `.yaml`, `.yml` or `.toml` file.

    Raises:
        RecipeError: The file can't be read, is neither, or has a syntax error (with its line).
    """
    shown = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(
            f"the recipe can't be read: {reason}",
            where=shown,
            do="`hone init` writes a recipe to start from",
        ) from None
    if path.suffix in (".yaml", ".yml"):
        return _read_yaml(text, shown)
    if path.suffix == ".toml":
        return _read_toml(text, shown)
    raise RecipeError(
        f"a recipe is a .yaml, .yml or .toml file, not '{path.suffix or path.name}'", where=shown
    )


def read_text(text: str, name: str) -> Source:
    """Read the text of a recipe, in YAML or JSON.

    Raises:
        RecipeError: It has a syntax error.
    """
    return _read_yaml(text, name)


class _Loader(yaml.SafeLoader):
    """YAML whose scalars are those of JSON: 1e-3 is a number, 2026-11-23 and 'no' are strings."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", "-+0123456789"),
    (
        "float",
        r"^[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf)$|^\.nan$",
        "-+0123456789.",
    ),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^(?:<<)$", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def parse_value(text: str) -> Any:
    """One YAML value, as `--set` and recipes write them."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader with fewer scalar types)


def _read_yaml(text: str, name: str) -> Source:
    try:
        node = yaml.compose(text, Loader=_Loader)
        lines: dict[FieldPath, int] = {}
        if node is not None:
            _note_lines(node, (), lines, name)
        values = parse_value(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = name if mark is None else f"{name}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error)
        raise RecipeError(f"not valid YAML: {problem}", where=where) from None
    return Source(name, _table(values, name), lines)


def _note_lines(node: yaml.Node, path: FieldPath, lines: dict[FieldPath, int], name: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if inner in lines:
                raise RecipeError(
                    f"'{key.value}' is given twice (first in line {lines[inner]})",
                    where=f"{name}:{key.start_mark.line + 1}",
                )
            lines[inner] = key.start_mark.line + 1
            _note_lines(value, inner, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*path, index), lines, name)


def _read_toml(text: str, name: str) -> Source:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{name}:{line.group(1)}" if line else name
        problem = re.sub(r"\s*\(at line.*\)$", "", str(error))
        raise RecipeError(f"not valid TOML: {problem}", where=where) from None
    return Source(name, values, _toml_lines(text))


_HEADER = re.compile(r"^\s*(\[\[?)\s*([\w.\-\" ]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([\w\-]+(?:\s*\.\s*[\w\-]+)*)\s*=")


def _toml_lines(text: str) -> dict[FieldPath, int]:
    """Lines of tables and keys; a field inside an inline value has its key's line."""
    lines: dict[FieldPath, int] = {(): 1}
    counts: dict[FieldPath, int] = {}
    table: FieldPath = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = ()
            parts = [part.strip(' "') for part in header.group(2).split(".")]
            for position, part in enumerate(parts):
                table = (*table, part)
                last = position == len(parts) - 1
                if header.group(1) == "[[" and last:
                    counts[table] = counts.get(table, -1) + 1
                    lines.setdefault(table, number)
                if table in counts:
                    table = (*table, counts[table])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            path = table
            for part in key.group(1).split("."):
                path = (*path, part.strip())
                lines.setdefault(path, number)
    return lines


def _table(values: Any, name: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        found = "it is empty" if values is None else f"found a {type(values).__name__}"
        raise RecipeError(f"a recipe must be a mapping of fields; {found}", where=name)
    return {str(key): value for key, value in values.items()}
