"""Cache keys: the digest of everything that a step's result depends on.

The code that a step depends on is derived, not listed: the import closure of its module and of the
modules that it loads by name, without a few named carriers. The libraries whose versions matter
come from the same closure. `tests/tasks/test_keys.py` changes every file of the package in turn and
checks which keys change.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..recipe.strict import Strict
from ..runtimes.isolated.environment import version_of
from .steps import Call

if TYPE_CHECKING:
    from grimp import ImportGraph

PACKAGE = Path(__file__).parent.parent
_ROOT = __package__.partition(".")[0]

#: Modules that move a step's inputs and outputs and don't influence its result.
CARRIERS = frozenset(
    f"{_ROOT}{name}"
    for name in (
        "",
        "._version",
        ".recipe.code_path",
        ".recipe.errors",
        ".recipe.factories",
        ".recipe.showable",
        ".recipe.strict",
        ".ray_workers.store.artifacts",
        ".ray_workers.channel",
        ".ray_workers.cluster",
        ".ray_workers.dispatch",
        ".ray_workers.ray_start",
        ".ray_workers.ray_watch",
        ".ray_workers.worker_death",
        ".ray_workers.store.asides",
        ".ray_workers.store.file_lock",
        ".ray_workers.store.seal",
        ".ray_workers.store.whole_files",
        ".ray_workers.machine_lock",
        ".ray_workers.memory",
        ".ray_workers.scratch",
        ".ray_workers.workspace",
        ".runtimes.child_environment",
        ".runtimes.home",
        ".runtimes.isolated.environment",
        ".runtimes.outside_code",
    )
)

#: Libraries that read, write and validate data and don't influence a result.
_CARRIER_LIBRARIES = frozenset(
    {"fsspec", "matplotlib", "psutil", "pydantic", "pydantic_core", "yaml"}
)

#: Distributions that contain a module, if their name differs from the module's.
_DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "PIL": ("pillow",),
    "sklearn": ("scikit-learn",),
    "yaml": ("PyYAML",),
}


class UserCode(Strict):
    """Identity of the code that a recipe's factories come from.

    Attributes:
        digest: Of the code folder's files and of packages that factories come from.
    """

    digest: str = ""


@dataclass(frozen=True)
class Closure:
    """What code reaches by its imports, at module level and inside functions.

    Attributes:
        modules: Modules of this package, without the carriers.
        libraries: Top-level modules of other distributions.
    """

    modules: frozenset[str]
    libraries: frozenset[str]


def cache_key(call: Call, inputs: dict[str, str], code: UserCode, package: Path = PACKAGE) -> str:
    """Digest of everything that a step's result depends on.

    Args:
        call: The step and its spec.
        inputs: sha256 of each input artifact.
        code: The user's code.
        package: Folder to read this package's files from.
    """
    return _digest(call, call.spec.identity(), inputs, code, package)


def lineage_key(call: Call, inputs: dict[str, str], code: UserCode) -> str:
    """A key without the placement of the work (mesh, resources): it names the checkpoints.

    Args:
        call: The step and its spec.
        inputs: sha256 of each input artifact.
        code: The user's code.
    """
    return _digest(call, call.spec.lineage(), inputs, code, PACKAGE)


def _digest(
    call: Call, spec: dict[str, Any], inputs: dict[str, str], code: UserCode, package: Path
) -> str:
    step = call.step
    reached = closure(step.module, *step.lends, *call.loads)
    parts = {
        "function": step.function,
        "source": source_digest(reached.modules, call.files, package),
        "libraries": versions(reached.libraries),
        "spec": spec,
        "inputs": inputs,
        "code": code.digest if step.runs_user_code else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@functools.cache
def closure(*roots: str) -> Closure:
    """Everything that modules of this package reach by their imports.

    Args:
        roots: Import paths.
    """
    graph = _imports()
    modules, libraries = set(roots), set()
    ahead = list(roots)
    while ahead:
        for name in graph.find_modules_directly_imported_by(ahead.pop()):
            if name.partition(".")[0] != _ROOT:
                libraries.add(name)
            elif name not in modules and name not in CARRIERS:
                modules.add(name)
                ahead.append(name)
    libraries -= _CARRIER_LIBRARIES | sys.stdlib_module_names
    return Closure(frozenset(modules), frozenset(libraries))


def knows(module: str) -> bool:
    """Whether there is such a module in this package."""
    return module in _imports().modules


@functools.cache
def _imports() -> ImportGraph:
    """The imports of this package, read from its sources without importing anything."""
    import grimp

    return grimp.build_graph(
        _ROOT,
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


def source_digest(
    modules: frozenset[str], files: tuple[str, ...] = (), package: Path = PACKAGE
) -> str:
    """Digest of the sources of modules of this package, and of other files of it.

    Args:
        modules: Import paths.
        files: Paths within the package.
        package: Where its files are read from.
    """
    digest = hashlib.sha256()
    for path in _paths(modules, files):
        digest.update(path.encode() + b"\0" + _content(package, path))
    return digest.hexdigest()


@functools.cache
def _paths(modules: frozenset[str], files: tuple[str, ...]) -> list[str]:
    return sorted({*map(_file_of, modules), *files})


@functools.cache
def _content(package: Path, path: str) -> bytes:
    return hashlib.sha256((package / path).read_bytes()).digest()


@functools.cache
def _file_of(module: str) -> str:
    """The path within the package of a module's source."""
    path = "/".join(module.split(".")[1:])
    return f"{path}.py" if (PACKAGE / f"{path}.py").is_file() else f"{path}/__init__.py"


def versions(libraries: frozenset[str]) -> dict[str, str]:
    """The installed version of each library, by the name of its top-level module."""
    return {name: library_version(name) for name in sorted(libraries)}


@functools.cache
def library_version(name: str) -> str:
    """Version of a library, by its top-level module or its distribution; `none` if it isn't
    installed.

    `litert:ai-edge-litert` is a distribution in the environment `litert`.
    """
    environment, colon, distribution = name.partition(":")
    if colon:
        return version_of(environment, distribution)
    for candidate in _DISTRIBUTIONS.get(name, (name,)):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"
