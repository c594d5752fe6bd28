"""Factories: functions that a recipe names by import path, and what may be named.

A parameter from a user interface must not run arbitrary code. So an import path resolves only
under allowed prefixes: the bundled examples, what `HONE_ALLOWED_PREFIXES` adds (comma-separated)
and, only for a recipe file that a person runs from the command line, the modules in its own
`code` folder. What a prefix allows are the functions defined under it, not what they import.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import InputError, did_you_mean
from .strict import Strict

BUNDLED = "prefect_hone.recipe.examples"
#: Factories of ours that read a model from a path, and the one that finds out what it is.
SOURCES = "prefect_hone.ray_workers.model.incoming"
READ = f"{SOURCES}:read"


class Allowed(Strict):
    """What factories may be named.

    Attributes:
        prefixes: Packages and modules whose own functions may be named.
        modules: Top-level modules of the recipe's own code folder.
    """

    prefixes: tuple[str, ...] = (BUNDLED, SOURCES)
    modules: tuple[str, ...] = ()

    @staticmethod
    def from_environment(code: Path | None = None) -> Allowed:
        """The bundled examples, `HONE_ALLOWED_PREFIXES`, and the modules of a code folder."""
        added = os.environ.get("HONE_ALLOWED_PREFIXES", "").split(",")
        prefixes = (BUNDLED, SOURCES, *(name.strip() for name in added if name.strip()))
        return Allowed(prefixes=prefixes, modules=top_level_modules(code) if code else ())

    def permits(self, module: str) -> bool:
        return module.partition(".")[0] in self.modules or self._under_prefix(module)

    def _under_prefix(self, module: str) -> bool:
        return any(module == p or module.startswith(f"{p}.") for p in self.prefixes)

    def resolve(self, path: str, what: str) -> Callable[..., Any]:
        """The function at an import path.

        Args:
            path: `module:function`.
            what: What it is for, as an error calls it (`model.factory`).

        Raises:
            InputError: It lies outside the allowed prefixes, does not exist, can't be imported
                or is not a function.
        """
        found = self._imported(path, what)
        if not callable(found):
            name = path.partition(":")[2]
            raise InputError(f"'{name}' is not a function", where=f"{what}: {path}")
        self._check_home(found, path, what)
        return found  # type: ignore[no-any-return]

    def find(self, path: str, what: str) -> Any:
        """Whatever is at an import path: a function, a class, an object or a module.

        Args:
            path: `module:name`, where `name` may be a module in it; or `module`.
            what: What it is for, as an error calls it (`quality.metric`).

        Raises:
            InputError: It lies outside the allowed prefixes, does not exist or can't be imported.
        """
        found = self._imported(path, what)
        self._check_home(found, path, what)
        return found

    def _imported(self, path: str, what: str) -> Any:
        self.check(path, what)
        module_name, _, name = path.partition(":")
        module = self._module(module_name, path, what)
        if not name:
            return module
        found = getattr(module, name, None)
        inner = f"{module_name}.{name}"
        if found is None and hasattr(module, "__path__") and importlib.util.find_spec(inner):
            found = self._module(inner, path, what)
        if found is None:
            names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise InputError(
                f"'{module_name}' has no '{name}': {did_you_mean(name, names)}",
                where=f"{what}: {path}",
            )
        return found

    def _module(self, name: str, path: str, what: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or name
            raise InputError(
                f"there is no module '{missing}'"
                + ("" if missing == name else f" (imported by '{name}')"),
                where=f"{what}: {path}",
                do="is it in the recipe's `code` folder, or installed?",
            ) from None
        except Exception as error:
            raise raised(f"importing '{name}'", error, f"{what}: {path}") from error

    def _check_home(self, found: Any, path: str, what: str) -> None:
        """Refuse what an allowed module only imports from elsewhere."""
        module, _, name = path.partition(":")
        home = found.__name__ if isinstance(found, ModuleType) else getattr(
            found, "__module__", None)  # fmt: skip
        own = module.partition(".")[0] in self.modules
        if not own and not (isinstance(home, str) and self._under_prefix(home)):
            raise InputError(
                f"'{name}' is defined in '{home}', outside the allowed prefixes",
                where=f"{what}: {path}",
                do=f"add it with HONE_ALLOWED_PREFIXES={home}, or wrap it in a function of yours",
            )

    def check(self, path: str, what: str) -> None:
        """Refuse an import path outside the allowed prefixes, importing nothing.

        Raises:
            InputError: It lies outside.
        """
        module = path.partition(":")[0]
        if not self.permits(module):
            allowed = ", ".join([*self.modules, *self.prefixes])
            raise InputError(
                f"'{module}' is outside the allowed prefixes ({allowed})",
                where=f"{what}: {path}",
                do="put the module in the recipe's `code` folder and use the command line, or "
                f"allow it with HONE_ALLOWED_PREFIXES={module.partition('.')[0]}",
            )

    def call(self, factory: str, args: dict[str, Any], what: str) -> Any:
        """Resolve a factory and call it.

        Raises:
            InputError: As `resolve`, or because the factory raised; then with its own last line.
        """
        function = self.resolve(factory, what)
        try:
            return function(**args)
        except Exception as error:
            raise raised("the factory", error, f"{what}: {factory}") from error


def raised(who: str, error: BaseException, where: str) -> InputError:
    """An error of the user's code, with the line of theirs that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parent.parent)
    theirs = [f for f in frames if not f.filename.startswith((ours, "<"))] or list(frames)
    bundled = [f for f in frames if "recipe/examples" in f.filename]
    found = bundled or theirs
    last = found[-1] if found else None
    place = f" ({last.filename}:{last.lineno} in {last.name})" if last else ""
    return InputError(f"{who} raised {type(error).__name__}: {error}{place}", where=where)


def top_level_modules(folder: Path) -> tuple[str, ...]:
    """Names that can be imported from a folder: its .py files and its packages."""
    names = {p.stem for p in folder.glob("*.py")}
    names |= {p.parent.name for p in folder.glob("*/__init__.py")}
    return tuple(sorted(name for name in names if name.isidentifier()))


_used: list[str] = []


def use_code(folder: Path) -> None:
    """Put a code folder on the import path, in place of one that was used before.

    A worker process may serve several runs: modules that came from another version of the
    folder are forgotten, or the old code would be used again.
    """
    path = str(folder)
    for old in [used for used in _used if used != path]:
        _used.remove(old)
        sys.path.remove(old)
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(old + os.sep):
                del sys.modules[name]
    if path not in _used:
        _used.append(path)
        sys.path.insert(0, path)
    importlib.invalidate_caches()


def user_modules() -> list[Any]:
    """Loaded modules that came from a code folder."""
    return [
        module
        for module in list(sys.modules.values())
        if str(getattr(module, "__file__", None) or "").startswith(
            tuple(f"{p}{os.sep}" for p in _used)
        )
    ]
