"""The user's code: the recipe's folder as an artifact for the workers, and its identity."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec

from ..ray_workers.artifacts import Artifact, Store, file_digest, tree_digest
from ..recipe.errors import InputError
from ..recipe.factories import BUNDLED, SOURCES, Allowed
from ..recipe.schema import Recipe
from ..tasks.steps import PACKAGE, UserCode

if TYPE_CHECKING:
    from .session import Session

WEIGHTS = "model.safetensors"

_LEFT_OUT = {"__pycache__", "node_modules", "mlruns", "mlartifacts", "build", "dist"}
_LARGEST = 64 * 2**20  # bytes


def code_files(folder: Path) -> dict[str, Path]:
    """The files of a code folder that are shipped: without hidden ones, caches, Markdown, and the
    recipes at its top.

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
    """Digest of all code that the recipe's factories can reach: the folder, or their packages."""
    digest = hashlib.sha256()
    if code is not None:
        digest.update(
            tree_digest({n: file_digest(p) for n, p in code_files(code).items()}).encode()
        )
    own = Allowed.from_environment(code).modules if code else ()
    for module in sorted({path.partition(":")[0] for path, _ in recipe.factories()}):
        if module.partition(".")[0] not in own:
            digest.update(_package_digest(module).encode())
    return UserCode(digest.hexdigest())


def pack(folder: Path, store: Store) -> Artifact | None:
    """Keep a code folder in the store; None where there is nothing in it."""
    files = code_files(folder)
    if not files:
        return None
    with tempfile.TemporaryDirectory(prefix="hone-code-") as scratch:
        for relative, path in files.items():
            target = Path(scratch) / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return store.put(Path(scratch), "code")


def pinned(recipe: Recipe, session: Session) -> Recipe:
    """The recipe with its model's files kept in the store, so that steps depend on their bytes.

    A relative path is one from the recipe's folder.

    Raises:
        InputError: There is no such file.
    """
    model = recipe.model
    path = model.source or model.args.get("path")
    if model.factory.startswith(f"{SOURCES}:") and isinstance(path, str):
        if path.startswith(("models:/", "runs:/")):
            if path not in session.kept:
                session.kept[path] = _keep_logged(path, session)
            kept = session.kept[path]
        else:
            kept = _keep_path(path, session)
        model = model.model_copy(update={"source": None, "args": {**model.args, "path": kept}})
    if model.weights is not None:
        model = model.model_copy(update={"weights": _keep_weights(model.weights, session)})
    return recipe.model_copy(update={"model": model})


def _absolute(url: str, session: Session) -> str:
    if "://" in url or session.place is None:
        return url
    return str((session.place / Path(url).expanduser()).resolve())


def _keep_path(path: str, session: Session) -> str:
    """A model's file or folder in the store; its place there."""
    source = Path(_absolute(path, session))
    if not source.exists():
        raise InputError("there is no such file or folder", where=f"model.source: {path}")
    if source.is_dir():
        if not any(any(source.glob(name)) for name in ("MLmodel", "config.json", "*.onnx")):
            raise InputError(
                "the folder holds no model that can be read",
                where=f"model.source: {path}",
                do="give a transformers folder, an MLflow model's, or one with an .onnx file",
            )
        files = [p for p in source.rglob("*") if p.is_file()]
        return _keep({p.relative_to(source).as_posix(): p for p in files}, session)
    files = [source]
    if source.suffix == ".onnx":
        from ..ray_workers.onnx_graph import model_files  # imports onnx and torch

        files = model_files(source)
    kept = _keep({p.relative_to(source.parent).as_posix(): p for p in files}, session)
    return f"{kept}/{source.name}"


def _keep_logged(uri: str, session: Session) -> str:
    """A model that MLflow keeps, in the store; its place there."""
    import mlflow

    tracking = session.settings.tracking
    mlflow.set_registry_uri(tracking)
    with tempfile.TemporaryDirectory(prefix="hone-logged-") as folder:
        try:
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=folder, tracking_uri=tracking
            )
        except Exception as error:
            raise InputError(
                f"MLflow does not give this model: {str(error).splitlines()[0]}",
                where=f"model.source: {uri}",
                do=f"is it there? looked in {tracking}",
            ) from error
        files = [p for p in Path(found).rglob("*") if p.is_file()]
        return _keep({p.relative_to(found).as_posix(): p for p in files}, session)


def _keep(files: dict[str, Path], session: Session) -> str:
    """Files in the store, by their names there; its place. The same files are read once."""
    seen = [(name, str(p), (s := p.stat()).st_size, s.st_mtime_ns) for name, p in files.items()]
    record = f"sources/{hashlib.sha256(repr(sorted(seen)).encode()).hexdigest()}.json"
    known = session.store.read_record(record)
    if known is not None and session.store.fs.exists(known["uri"]):
        return str(known["uri"])
    uri = _put(files, session)
    session.store.write_record(record, {"uri": uri})
    return uri


def _put(files: dict[str, Path], session: Session) -> str:
    with tempfile.TemporaryDirectory(prefix="hone-model-") as folder:
        for relative, path in files.items():
            target = Path(folder) / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return session.store.put(Path(folder), "model").uri


def _keep_weights(given: str, session: Session) -> str:
    url = _absolute(given, session)
    if "://" not in url:
        if not Path(url).is_file():
            raise InputError(
                "the weights can't be read: there is no such file", where=f"model.weights: {given}"
            )
        return f"{_keep({WEIGHTS: Path(url)}, session)}/{WEIGHTS}"
    with tempfile.TemporaryDirectory(prefix="hone-weights-") as folder:
        local = Path(folder) / WEIGHTS
        try:
            fs, path = fsspec.core.url_to_fs(url)
            fs.get_file(path, str(local))
        except (OSError, ValueError, ImportError) as error:
            raise InputError(
                f"the weights can't be read: {error}",
                where=f"model.weights: {given}",
            ) from None
        kept = session.store.put(Path(folder), "weights")
    return f"{kept.uri}/{WEIGHTS}"


def _package_digest(module: str) -> str:
    """Digest of the package that a module is in, found without importing it."""
    top = module.partition(".")[0]
    if module == SOURCES:
        path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
        files = [path, path.with_name("onnx_graph.py")]
    elif module == BUNDLED or module.startswith(f"{BUNDLED}."):
        parts = module.split(".")[1:-1]
        files = sorted(PACKAGE.joinpath(*parts).glob("*.py"))
    else:
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
    """The git commit of a folder, with `-dirty` where it has changes; None outside a repository."""

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
