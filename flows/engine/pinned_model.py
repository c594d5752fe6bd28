"""Copies the files of a recipe's model to the store, so that steps depend on their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import fsspec

from ...ray_workers.store.artifacts import Artifact
from ...ray_workers.store.file_names import WEIGHTS
from ...recipe.errors import InputError
from ...recipe.factories import SOURCES
from ...recipe.library_messages import telling
from ...recipe.schema import Recipe
from .session import Session


def pinned(recipe: Recipe, session: Session) -> Recipe:
    """The recipe with its model's files in the store, so that steps depend on their bytes.

    A relative path is relative to the recipe's folder.

    Raises:
        InputError: There is no such file.
    """
    model = recipe.model
    path = model.source or model.args.get("path")
    if model.factory.startswith(f"{SOURCES}:") and isinstance(path, str):
        kept = _once(
            _keep_logged if path.startswith(("models:/", "runs:/")) else _keep_path, path, session
        )
        model = model.model_copy(update={"source": None, "args": {**model.args, "path": kept}})
    if model.weights is not None:
        weights = _once(_keep_weights, model.weights, session)
        model = model.model_copy(update={"weights": weights})
    return recipe.model_copy(update={"model": model})


def _once(keep: Callable[[str, Session], str], given: str, session: Session) -> str:
    """The result of `keep`, cached, so that a session's plan and run see the same bytes."""
    if given not in session.kept:
        session.kept[given] = keep(given, session)
    return session.kept[given]


def _absolute(url: str, session: Session) -> str:
    if "://" in url or session.place is None:
        return url
    return str((session.place / Path(url).expanduser()).resolve())


def _keep_path(path: str, session: Session) -> str:
    """Store a model's file or folder; returns its place in the store."""
    source = Path(_absolute(path, session))
    if not source.exists():
        raise InputError(
            "there is no such file or folder",
            where=f"model.source: {path}",
            do=f"give a path from the recipe's folder, or an absolute one; looked at {source}",
        )
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
        from ...ray_workers.model.onnx_model import model_files  # imports onnx and torch

        files = model_files(source, f"model.source: {path}")
    kept = _keep({p.relative_to(source.parent).as_posix(): p for p in files}, session)
    return f"{kept}/{source.name}"


def _keep_logged(uri: str, session: Session) -> str:
    """Store a model from MLflow; returns its place in the store."""
    from ...tasks.tracking.logged_models import download

    tracking = session.settings.tracking
    with tempfile.TemporaryDirectory(prefix="hone-logged-") as folder:
        try:
            found = download(uri, tracking, folder)
        except Exception as error:
            raise InputError(
                f"MLflow can't provide the model: {telling(error)}",
                where=f"model.source: {uri}",
                do=f"check its name and MLFLOW_TRACKING_URI, which is {tracking}",
            ) from error
        files = [p for p in found.rglob("*") if p.is_file()]
        return _keep({p.relative_to(found).as_posix(): p for p in files}, session)


def _keep(files: dict[str, Path], session: Session) -> str:
    """Store files by name; returns their place. The same files are read once."""
    seen = [(name, str(p), (s := p.stat()).st_size, s.st_mtime_ns) for name, p in files.items()]
    record = f"sources/{hashlib.sha256(repr(sorted(seen)).encode()).hexdigest()}.json"
    known = session.store.read_record(record)
    if known is not None:
        with contextlib.suppress(ValueError):  # of another version
            artifact = session.store.located(Artifact.model_validate(known))
            if session.store.holds(artifact):
                return artifact.uri
    artifact = _put(files, session)
    session.store.write_record(record, artifact.model_dump(mode="json"))
    return artifact.uri


def _put(files: dict[str, Path], session: Session) -> Artifact:
    with tempfile.TemporaryDirectory(prefix="hone-model-") as folder:
        for relative, path in files.items():
            target = Path(folder) / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return session.store.put(Path(folder), "model")


def _keep_weights(given: str, session: Session) -> str:
    url = _absolute(given, session)
    if "://" not in url:
        if not Path(url).is_file():
            raise InputError(
                "there is no such file",
                where=f"model.weights: {given}",
                do=f"give a path from the recipe's folder, or an absolute one; looked at {url}",
            )
        return f"{_keep({WEIGHTS: Path(url)}, session)}/{WEIGHTS}"
    with tempfile.TemporaryDirectory(prefix="hone-weights-") as folder:
        local = Path(folder) / WEIGHTS
        try:
            fs, path = fsspec.core.url_to_fs(url)
            fs.get_file(path, str(local))
        except (OSError, ValueError, ImportError) as error:
            raise InputError(
                f"the weights can't be read: {telling(error)}",
                where=f"model.weights: {given}",
                do="give a file, or a URL whose fsspec package is installed",
            ) from None
        kept = session.store.put(Path(folder), "weights")
    return f"{kept.uri}/{WEIGHTS}"
