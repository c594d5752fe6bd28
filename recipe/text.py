"""The text of a recipe: YAML or TOML read into plain values, with the line of each field."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import HoneError, RecipeError
from .limits import LARGEST, check_length, check_yaml, is_word, odd_value, too_deep_toml
from .regular_files import open_regular

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
    if path.suffix not in (".yaml", ".yml", ".toml"):
        raise RecipeError(
            f"a recipe is a .yaml, .yml or .toml file, not '{path.suffix or path.name}'",
            where=shown,
        )
    try:
        with open_regular(path.resolve(), shown) as stream:
            text = stream.read(4 * LARGEST + 1).decode("utf-8")
    except (HoneError, OSError, RuntimeError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text"
        if isinstance(error, HoneError):
            reason = error.what.removeprefix("it can't be read: ")
        elif not isinstance(error, UnicodeDecodeError):
            reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(
            f"the recipe can't be read: {reason}",
            where=shown,
            do="`hone init` writes a recipe to start from",
        ) from None
    if path.suffix == ".toml":
        return _read_toml(text, shown)
    return _read_yaml(text, shown)


def read_text(text: str, name: str) -> Source:
    """Read the text of a recipe, in YAML or JSON.

    Raises:
        RecipeError: It has a syntax error.
    """
    return _read_yaml(text, name)


class _Loader(yaml.SafeLoader):
    """YAML whose scalars are those of JSON: 1e-3 is a number, 2026-11-23 and 'no' are strings."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The tag of a node; long words are text, or patterns would be tried on them."""
        if kind is yaml.ScalarNode and implicit[0] and not is_word(value):
            implicit = (False, True)
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


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
    """One YAML value, as `--set` and recipes write them.

    Raises:
        yaml.YAMLError: It is none, or beyond the limits of a recipe.
    """
    return _parsed(text, lambda node: None)


def _parsed(text: str, note: Callable[[yaml.Node], None]) -> Any:
    """The value of a YAML text; its node is shown before, because merges change it.

    Raises:
        yaml.YAMLError: It is none, or beyond the limits of a recipe.
    """
    try:
        check_yaml(text, _Loader)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            note(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # of PyYAML, for instance for a character or a version that does not exist
        raise yaml.YAMLError(f"a value can't be read: {error}") from None


def _read_yaml(text: str, name: str) -> Source:
    lines: dict[FieldPath, int] = {}
    try:
        values = _parsed(text, lambda node: _note_lines(node, (), lines, name))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = name if mark is None else f"{name}:{mark.line + 1}"
        raise RecipeError(f"not valid YAML: {yaml_problem(error)}", where=where) from None
    return Source(name, _table(values, name), lines)


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, as a clause of one line."""
    problem = getattr(error, "problem", None)
    if isinstance(error, yaml.reader.ReaderError):
        found = error.character  # a number, or a byte
        number = found if isinstance(found, int) else ord(found)
        problem = f"the character U+{number:04X} can't be in it"
    return " ".join(str(problem or error).split())[:300]


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
        check_length(text)
        values = {} if too_deep_toml(text) else tomllib.loads(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"not valid TOML: {yaml_problem(error)}", where=name) from None
    except (ValueError, RecursionError) as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{name}:{line.group(1)}" if line else name
        problem = re.sub(r"\s*\(at line.*\)$", "", str(error))[:300]
        if isinstance(error, RecursionError):
            problem = "it is nested too deeply"
        raise RecipeError(f"not valid TOML: {problem}", where=where) from None
    odd = odd_value(values)
    if too_deep_toml(text) or odd is not None:
        problem = "it is nested too deeply" if odd is None else odd[1]
        raise RecipeError(f"not valid TOML: {problem}", where=name)
    return Source(name, values, _toml_lines(text))


_LONGEST_LINE = 1_000  # in which a key is looked for (characters)
_HEADER = re.compile(r"^\s*(\[\[?)\s*([\w.\-\" ]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([\w\-]+(?:\s*\.\s*[\w\-]+)*)\s*=")


def _toml_lines(text: str) -> dict[FieldPath, int]:
    """Lines of tables and keys; a field inside an inline value has its key's line."""
    lines: dict[FieldPath, int] = {(): 1}
    counts: dict[FieldPath, int] = {}
    table: FieldPath = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > _LONGEST_LINE:
            continue
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
