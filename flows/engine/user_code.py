"""The user's code: the recipe's folder as an artifact for the workers, and its identity."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from ...ray_workers.store.artifacts import Artifact, Store
from ...recipe.errors import InputError
from ...recipe.factories import Allowed
from ...recipe.schema import Recipe
from ...runtimes.digest import file_digest, tree_digest
from ...tasks.keys import UserCode, closure, knows, source_digest, versions

_LEFT_OUT = {"__pycache__", "node_modules", "mlruns", "mlartifacts", "build", "dist"}
_LARGEST = 64 * 2**20  # bytes


def code_files(folder: Path) -> dict[str, Path]:
    """The files of a code folder that are shipped: all but hidden ones, caches, Markdown, and the
    recipes at its top level.

    Raises:
        InputError: It does not exist, or is too large to be code.
    """
    if not folder.is_dir():
        raise InputError(
            "there is no such folder", where=f"code: {folder}", do="give the folder of your modules"
        )
    found: dict[str, Path] = {}
    size = 0
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(
            p in _LEFT_OUT or p.startswith(".") or p.endswith(".egg-info") for p in relative.parts
        ):
            continue
        if not path.is_file() or path.is_symlink() or path.suffix in (".pyc", ".md"):
            continue
        if len(relative.parts) == 1 and path.suffix in (".yaml", ".yml", ".toml"):
            continue
        found[relative.as_posix()] = path
        size += path.stat().st_size
        if size > _LARGEST:
            raise InputError(
                f"the folder holds more than {_LARGEST // 2**20} MB; it is shipped to every worker",
                where=f"code: {folder}",
                do="point `code` at a folder with only your modules, and read data from elsewhere",
            )
    return found


def identify(recipe: Recipe, code: Path | None) -> UserCode:
    """Digest of the code that the recipe's factories come from: the folder, or their packages."""
    digest = hashlib.sha256()
    if code is not None:
        digest.update(
            tree_digest({n: file_digest(p) for n, p in code_files(code).items()}).encode()
        )
    own = Allowed.from_environment(code).modules if code else ()
    for module in sorted({path.partition(":")[0] for path, _ in recipe.factories()}):
        if module.partition(".")[0] not in own:
            digest.update(_package_digest(module).encode())
    return UserCode(digest=digest.hexdigest())


def pack(folder: Path, store: Store) -> Artifact | None:
    """Put a code folder into the store; None if it is empty."""
    files = code_files(folder)
    if not files:
        return None
    with tempfile.TemporaryDirectory(prefix="hone-code-") as scratch:
        for relative, path in files.items():
            target = Path(scratch) / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return store.put(Path(scratch), "code")


def _package_digest(module: str) -> str:
    """Digest of the package that a module is in, found without importing it."""
    top = module.partition(".")[0]
    if top == __package__.partition(".")[0]:  # of ours: what it reaches, not all of Hone
        if not knows(module):
            return "missing"
        reached = closure(module)
        return json.dumps([source_digest(reached.modules), versions(reached.libraries)])
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return "missing"
    places = [Path(p) for p in spec.submodule_search_locations or ()]
    files = sorted(f for place in places for f in place.rglob("*.py"))
    if not places and spec.origin:
        files = [Path(spec.origin)]
    return tree_digest({str(i): file_digest(path) for i, path in enumerate(files)})


def source_commit(folder: Path) -> str | None:
    """The git commit of a folder, with `-dirty` if it has changes; None outside a repository."""

    def git(*arguments: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        return answer.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}-dirty" if git("status", "--porcelain", "--", ".") else commit
    except (OSError, subprocess.SubprocessError):
        return None
