"""Code outside the code folder and the installed packages, which may be imported only as it was
when the results that depend on it were keyed.

The current folder, `PYTHONPATH` and editable installs lead to files that change without a version.
What a run may import from there is found before it starts, and named with its digest; a process
that runs user code refuses everything else by its name.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from .digest import file_digest, tree_digest

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_CODE = (".py", ".so", ".pyd")
_ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")


class OutsideImport(ImportError):
    """A module that is neither shipped nor installed, or that has changed.

    An ImportError, so that an optional import does without it.
    """

    kind = "InputError"
    where: str | None = None

    def __init__(self, name: str, what: str, do: str) -> None:
        super().__init__(what, name=name)
        self.what = what
        self.do = do


def installed(path: str) -> bool:
    """Whether a file is Python's, this package's, or in an installed package."""
    parts = path.split(os.sep)
    return (
        "site-packages" in parts
        or "dist-packages" in parts
        or path.startswith(tuple(f"{folder}{os.sep}" for folder in _own_folders()))
    )


def _own_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {_PACKAGE, *(paths[name] for name in names), *site.getsitepackages()}
    return tuple(sorted({*found, *map(os.path.realpath, found)}))


def places_of(spec: ModuleSpec | None) -> list[Path]:
    """The file of a module, or the folders of a package; none if it is built in or not there."""
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and spec.has_location else []


def sources(place: Path) -> dict[str, Path]:
    """The modules in a place of `places_of`, by relative path; not hidden ones or environments."""
    if place.is_file():
        return {place.name: place}
    found: dict[str, Path] = {}
    for here, folders, names in os.walk(place):
        folders[:] = [
            name for name in folders
            if not name.startswith(".") and name not in ("__pycache__", "node_modules")
            and not any(Path(here, name, mark).exists() for mark in _ENVIRONMENTS)
        ]  # fmt: skip
        for name in names:
            if name.endswith(_CODE) and not name.startswith("."):
                path = Path(here, name)
                found[path.relative_to(place).as_posix()] = path
    return found


def content_digest(places: Sequence[Path]) -> str:
    """sha256 of the modules in places, wherever these lie."""
    files = [
        tree_digest({name: file_digest(path) for name, path in sources(place).items()})
        for place in places
    ]
    return tree_digest(dict.fromkeys(files, ""))


class ImportGuard(MetaPathFinder):
    """Finds modules as Python would, and refuses those that results don't depend on.

    Args:
        known: Digest by name of the top-level modules outside that may be imported.
        code: The code folder, whose modules are shipped.
    """

    def __init__(self, known: Mapping[str, str], code: str | None) -> None:
        self.known = dict(known)
        self.code = None if code is None else code.rstrip(os.sep) + os.sep
        self._verified: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = self._found(name, path, target)
        if spec is None or not spec.has_location or spec.origin is None:
            return spec  # built in, or a namespace, in which there is no code
        top = name.partition(".")[0]
        ours = self.code is not None and spec.origin.startswith(self.code)
        if ours or (top not in self.known and installed(spec.origin)):
            return spec
        if top not in self.known:
            raise OutsideImport(
                name,
                f"'{name}' is imported from {spec.origin}, which is neither in the recipe's code "
                "folder nor an installed package, so results would not depend on it",
                "put it in the recipe's `code` folder, install it, or add "
                f"'{top}' to HONE_ALLOWED_PREFIXES",
            )
        if top not in self._verified:
            self._verify(top, spec if path is None else self._found(top, None, None))
        return spec

    def _verify(self, top: str, spec: ModuleSpec | None) -> None:
        if content_digest(places_of(spec)) != self.known[top]:
            raise OutsideImport(
                top,
                f"'{top}' is not the same here as where the run was started, or has changed since",
                "install the same version on all machines, or put it in the recipe's `code` "
                "folder; if you have edited it, run again",
            )
        self._verified.add(top)

    def _found(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if isinstance(finder, ImportGuard) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None


def guard_imports(known: Mapping[str, str] | None, code: str | None) -> None:
    """From now on, refuse modules from outside; in place of an earlier guard.

    Args:
        known: What may be imported; None: everything, as in a test's process.
        code: The code folder.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, ImportGuard)]
    if known is not None:
        sys.meta_path.insert(0, ImportGuard(known, code))
