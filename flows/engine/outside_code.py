"""The modules outside the code folder and the installed packages that a recipe's code imports.

They are found by their imports, without running anything, and their content is part of the cache
keys: a module on `PYTHONPATH` or of an editable install has no version that would tell of a change.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...recipe.code_path import RESERVED
from ...recipe.syntax import syntax_tree
from ...runtimes.outside_code import content_digest, installed, places_of, sources

_OURS = __package__.partition(".")[0]
#: Python imports these by itself when it starts.
_AT_THE_START = ("sitecustomize", "usercustomize")


def outside_code(paths: Iterable[Path], names: Iterable[str], own: Iterable[str]) -> dict[str, str]:
    """Digest of each top-level module outside that code imports, directly or through others.

    Args:
        paths: The modules of the code folder.
        names: Further modules that may be imported.
        own: Top-level modules of the code folder, which come before all others.
    """
    skipped = {*own, _OURS}
    ahead = {*names, *_AT_THE_START, *_libraries(), *_imported_by(paths)} - skipped
    found: dict[str, str] = {}
    seen: set[str] = set()
    while ahead:
        top = ahead.pop()
        seen.add(top)
        places = _places(top)
        if not places or all(installed(str(place)) for place in places):
            continue
        found[top] = content_digest(places)
        inside = (path for place in places for path in sources(place).values())
        ahead |= _imported_by(inside) - seen - skipped
    return dict(sorted(found.items()))


def _libraries() -> Iterator[str]:
    """Libraries that Hone uses; on PYTHONPATH or by an editable install, they too lie outside."""
    yield from RESERVED - frozenset(sys.stdlib_module_names)


def _places(top: str) -> list[Path]:
    try:
        return places_of(importlib.util.find_spec(top))
    except (ImportError, ValueError, AttributeError):
        return []


def _imported_by(paths: Iterable[Path]) -> set[str]:
    """Top-level modules that modules import anywhere in them, also by name."""
    names: set[str] = set()
    for path in paths:
        if path.suffix != ".py":
            continue
        try:
            tree = syntax_tree(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and _imports(node.func) and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    names.add(first.value.partition(".")[0])
    return names - {""}


def _imports(function: ast.expr) -> bool:
    """Whether a call is `import_module(...)` or `__import__(...)`."""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")
