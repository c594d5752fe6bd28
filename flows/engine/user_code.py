"""The user's code: the recipe's folder as an artifact for the workers, and its identity."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

from ...ray_workers.scratch import scratch_folder
from ...ray_workers.store.artifacts import Artifact, Store
from ...recipe.factories import Allowed
from ...recipe.regular_files import copy_regular
from ...recipe.schema import Recipe
from ...runtimes.digest import file_digest, tree_digest
from ...tasks.keys import UserCode, closure, knows, source_digest, versions
from .outside_code import outside_code
from .shipped_code import shipped_code


def identify(recipe: Recipe, code: Path | None) -> tuple[UserCode, dict[str, str]]:
    """The code that the recipe's factories come from.

    Returns:
        Its digest: of the folder, of the factories' packages, and of what they import from
        elsewhere; and the digest by name of the latter, all that workers let in from outside.
    """
    digest = hashlib.sha256()
    files = {} if code is None else shipped_code(code, recipe).files
    if files:
        digest.update(tree_digest({n: file_digest(p) for n, p in files.items()}).encode())
    allowed = Allowed.from_environment(code)
    own = allowed.modules
    named = [*allowed.prefixes, *allowed.functions, *(path for path, _ in recipe.factories())]
    tops = {name.partition(":")[0].partition(".")[0] for name in named}
    outside = outside_code(files.values(), tops, own)
    digest.update(json.dumps(outside).encode())
    for module in sorted({path.partition(":")[0] for path, _ in recipe.factories()}):
        if module.partition(".")[0] not in own:
            digest.update(_package_digest(module).encode())
    return UserCode(digest=digest.hexdigest()), outside


def pack(folder: Path, store: Store, recipe: Recipe | None = None) -> Artifact | None:
    """Put a code folder into the store; None if it is empty."""
    files = shipped_code(folder, recipe).files
    if not files:
        return None
    with scratch_folder("code") as scratch:
        for relative, path in files.items():
            copy_regular(path, Path(scratch) / relative, f"code: {relative}")
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
