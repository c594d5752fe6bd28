"""An artifact of the user's own target, which only the user's code can open.

That code is not packaged with the model. Where the model is served, the package must be installed,
and whoever runs the server must allow it with `HONE_ALLOWED_PREFIXES`; otherwise nothing that a
model's folder names is run.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from .compiled_artifact import CompiledArtifact
from .errors import RuntimeFailed, RuntimeMissing
from .outside_code import guard_imports
from .predict import LoadOptions, Predict

NAME = "imported"
LIBRARIES: Mapping[str, str] = {}
ENVIRONMENT: str | None = None

_PREFIXES = "HONE_ALLOWED_PREFIXES"


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact where it is served.

    Raises:
        RuntimeMissing: The target's package is not installed, or not allowed.
        RuntimeFailed: The target refuses the artifact.
    """
    settings = CompiledArtifact.read(folder).settings
    factory = str(settings["factory"])
    packages = " ".join(settings["packages"]) or factory.partition(".")[0].partition(":")[0]
    given = [p.strip() for p in os.environ.get(_PREFIXES, "").split(",")]
    allowed = [p for p in given if p and p.partition(".")[0] != __name__.partition(".")[0]]
    module = factory.partition(":")[0]
    if not _permits(factory, allowed):
        raise RuntimeMissing(
            f"the model is opened by '{factory}', code that is not Hone's, and {_PREFIXES} does "
            "not allow it",
            where=str(folder),
            do=f"if you trust who registered it: pip install {packages}, and set "
            f"{_PREFIXES}={module.partition('.')[0]}",
        )
    try:
        found = _find(factory, allowed)
    except ModuleNotFoundError as error:
        raise RuntimeMissing(
            f"'{factory}' opens the model, and there is no module '{error.name}' here",
            where=str(folder),
            do=f"pip install {packages}",
        ) from error
    return _opened(found, factory, folder, options)


def load_measured(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact where it is validated and timed.

    Args:
        folder: The artifact.
        options: `threads`; `factory`, the target's path; `code`, a folder to import it from or
            None; `allowed`, the `prefixes`, `functions` and `modules` that may be named.

    Raises:
        RuntimeFailed: The target refuses the artifact.
    """
    if options["code"]:
        sys.dont_write_bytecode = True  # an artifact stays as it is
        sys.meta_path.insert(0, _Modules(options["code"], options["allowed"]["modules"]))
        sys.path.append(options["code"])
    lent = options["allowed"]
    guard_imports(lent.get("outside"), options["code"])
    allowed = [*lent["prefixes"], *lent["functions"], *lent["modules"]]
    found = _find(options["factory"], allowed)
    return _opened(found, options["factory"], folder, {"threads": options["threads"]})


class _Modules(MetaPathFinder):
    """Finds these modules in a folder, and leaves all others to Python.

    Args:
        folder: The code folder.
        names: Its top-level modules.
    """

    def __init__(self, folder: str, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = frozenset(names)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        ours = path is None and name in self._names
        return PathFinder.find_spec(name, [self._folder], target) if ours else None


def _find(factory: str, allowed: Sequence[str]) -> Any:
    """What is at an import path: a module, an object, or one of a class.

    Raises:
        RuntimeFailed: It is not there, or is defined outside what is allowed.
        ModuleNotFoundError: A module is not installed.
    """
    name, _, part = factory.partition(":")
    if not _permits(factory, allowed):
        raise RuntimeFailed(f"'{factory}' is outside the allowed prefixes", where=factory)
    found: Any = importlib.import_module(name)
    if part:
        inner = getattr(found, part, None)
        if inner is None and hasattr(found, "__path__"):
            inner = importlib.import_module(f"{name}.{part}")
        found = inner
    home = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", "")
    if found is None or not (factory in allowed or _under(home, allowed)):
        raise RuntimeFailed(f"'{factory}' is not there, or is defined elsewhere", where=factory)
    return found() if isinstance(found, type) else found


def _permits(factory: str, allowed: Sequence[str]) -> bool:
    """Whether a list of packages and import paths has one, by its name or its package."""
    module, _, name = factory.partition(":")
    return factory in allowed or (_under(module, allowed) and not name.startswith("_"))


def _under(module: str, allowed: Sequence[str]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in allowed)


def _opened(found: Any, factory: str, folder: Path, options: LoadOptions) -> Predict:
    try:
        predict: Predict = found.load(folder, options)
    except Exception as error:
        raise RuntimeFailed(
            f"load raised {type(error).__name__}: {error}",
            where=factory,
            said=f"{type(error).__name__}: {error}",
        ) from error
    return predict
