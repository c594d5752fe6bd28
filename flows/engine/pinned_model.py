"""Copies the files of a recipe's models to the store, so that steps depend on their bytes.

It reads nothing that the session's `AccessPolicy` does not permit, and puts nothing into the store
that does not look like a model.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ...ray_workers.model.file_kinds import odd_kind, safetensors_problem
from ...ray_workers.scratch import scratch_folder
from ...ray_workers.store.artifacts import Artifact, describe
from ...ray_workers.store.file_names import WEIGHTS
from ...recipe.errors import HoneError, InputError
from ...recipe.factories import READ, READERS, SOURCES
from ...recipe.library_messages import telling
from ...recipe.model_formats import why_off
from ...recipe.objectives import DistillObjective
from ...recipe.passes import DistillPass
from ...recipe.regular_files import copy_regular, files_in, open_regular
from ...recipe.schema import Recipe
from .fetching import fetch, unusable_weights
from .seen_before import recalled, remember
from .session import Session

_KINDS = {
    f"{SOURCES}:onnx_graph": ".onnx",
    f"{SOURCES}:program": ".pt2",
    f"{SOURCES}:keras_model": ".keras",
}
_FOLDERS = (f"{SOURCES}:transformers_model", f"{SOURCES}:mlflow_model")

F = TypeVar("F", DistillObjective, DistillPass)


def pinned(recipe: Recipe, session: Session) -> Recipe:
    """The recipe with the files of its models in the store, so that steps depend on their bytes.

    These are the model, a teacher, and students. A relative path starts at the recipe's folder.

    Raises:
        InputError: There is no such file, it is no model, or the recipe may not read it.
    """
    _refuse_other_readers(recipe)
    model = recipe.model
    path = model.source or model.args.get("path")
    if model.factory in READERS:
        where = "model.source" if model.source else "model.args.path"
        args = {**model.args, "path": _keep_model(model.factory, path, where, session)}
        model = model.model_copy(update={"source": None, "args": args})
    if model.weights is not None:
        weights = _keep_weights(model.weights, "model.weights", session)
        model = model.model_copy(update={"weights": weights})
    changed: dict[str, Any] = {"model": model}
    objective = recipe.train.objective
    if isinstance(objective, DistillObjective):
        objective = _with_model(objective, "train.objective", session)
        if objective.weights is not None:
            weights = _keep_weights(objective.weights, "train.objective.weights", session)
            objective = objective.model_copy(update={"weights": weights})
        changed["train"] = recipe.train.model_copy(update={"objective": objective})
    changed["variants"] = tuple(
        variant.model_copy(
            update={
                "passes": tuple(
                    _with_model(step, f"variants.{i}.passes.{j}", session)
                    if isinstance(step, DistillPass)
                    else step
                    for j, step in enumerate(variant.passes)
                )
            }
        )
        for i, variant in enumerate(recipe.variants)
    )
    return recipe.model_copy(update=changed)


def _refuse_other_readers(recipe: Recipe) -> None:
    """Refuse a reader of models in a field where its path would be read without a check."""
    models = {"model.factory"}
    if isinstance(recipe.train.objective, DistillObjective):
        models.add("train.objective.factory")
    for i, variant in enumerate(recipe.variants):
        models |= {
            f"variants.{i}.passes.{j}.factory"
            for j, step in enumerate(variant.passes)
            if isinstance(step, DistillPass)
        }
    for path, where in recipe.factories():
        if path in READERS and where not in models:
            raise InputError(
                "this reads a model, and can be only a model, a teacher or a student",
                where=f"{where}: {path}",
            )


def _with_model(factory: F, field: str, session: Session) -> F:
    """A teacher or student with its model's files in the store, if it is read from files."""
    if factory.factory not in READERS:
        return factory
    where = f"{field}.args.path"
    kept = _keep_model(factory.factory, factory.args.get("path"), where, session)
    return factory.model_copy(update={"args": {**factory.args, "path": kept}})


def _keep_model(factory: str, path: Any, field: str, session: Session) -> str:
    """Store what a reader of models reads; returns its place in the store."""
    if not isinstance(path, str):
        raise InputError("the path of a model is a text", where=field)

    def keep() -> str:
        if path.startswith(("models:", "runs:")):
            return _keep_logged(path, field, session)
        return _keep_path(path, field, factory, session)

    return _once(keep, path, session)


def _once(keep: Callable[[], str], given: str, session: Session) -> str:
    """The result of `keep`, cached, so that a session's plan and run see the same bytes."""
    if given not in session.kept:
        session.kept[given] = keep()
    return session.kept[given]


def _keep_path(path: str, field: str, factory: str, session: Session) -> str:
    """Store a model's file or folder; returns its place in the store."""
    where = f"{field}: {path}"
    place = session.access.place(path, field, session.place)
    if "://" in place:
        raise InputError(
            "a model is read from a file, a folder or MLflow",
            where=where,
            do="download it first; only model.weights can be a URL",
        )
    named, real = Path(place), session.access.file(Path(place), where)
    if not real.exists():
        raise InputError(
            "there is no such file or folder",
            where=where,
            do=f"give a path from the recipe's folder, or an absolute one; looked at {named}",
        )
    if real.is_dir():
        if factory not in (READ, *_FOLDERS):
            raise InputError("this is a folder, not a file", where=where)
        return _keep(_folder(real, where, session), where, session)
    _look(real, _KINDS.get(factory, named.suffix), where)
    _refuse_format(f"model{_KINDS.get(factory, named.suffix)}", where, session)
    files = {named.name: real}
    if _KINDS.get(factory, named.suffix) == ".onnx":
        from ...ray_workers.model.onnx_model import model_files  # imports onnx and torch

        for beside in model_files(named, where):
            name = beside.relative_to(named.parent).as_posix()
            files[name] = session.access.file(beside, where)
    return f"{_keep(files, where, session)}/{named.name}"


def _folder(folder: Path, where: str, session: Session) -> dict[str, Path]:
    """The files of a model's folder, by name."""
    if not any(any(folder.glob(name)) for name in ("MLmodel", "config.json", "*.onnx")):
        raise InputError(
            "the folder holds no model that can be read",
            where=where,
            do="give a transformers folder, an MLflow model's, or one with an .onnx file",
        )
    files = files_in(folder, where)
    return {name: session.access.file(path, where) for name, path in files.items()}


def _look(path: Path, kind: str, where: str) -> None:
    """Refuse a file that is not of the kind that it says.

    Raises:
        InputError: It is not.
    """
    open_regular(path, where).close()
    if kind not in (".onnx", ".pt2", ".keras"):
        raise InputError(
            f"a {kind} file is not a model that can be read"
            if kind
            else "this is not a model that can be read",
            where=where,
            do="give an .onnx, .pt2 or .keras file, a transformers folder or an MLflow model, or "
            "the factory of a torch module",
        )
    if kind != ".onnx" and not zipfile.is_zipfile(path):
        said = odd_kind(path, archive=True) or "it is no zip file, or it is cut off"
        raise InputError(f"this is not a {kind} file: {said}", where=where)


def _keep_logged(uri: str, field: str, session: Session) -> str:
    """Store a model from MLflow; returns its place in the store. A plan only asks where it is."""
    from ...tasks.tracking.logged_models import download, locate

    settings, where = session.settings, f"{field}: {uri}"
    session.access.model_uri(uri, field)

    def permit(location: str) -> None:
        tracking, artifacts = settings.tracking, settings.artifacts
        local = session.access.model_location(location, where, tracking, artifacts)
        if local is not None and local.is_dir():
            files_in(local, where)  # MLflow's copy would follow links out of it

    with scratch_folder("logged") as folder:
        try:
            if session.dry:
                locate(uri, settings.tracking, permit)
                return recalled(uri, "", where, session)
            found = download(uri, settings.tracking, str(folder), permit).resolve()
        except HoneError:
            raise
        except Exception as error:
            raise InputError(
                f"MLflow can't provide the model: {telling(error)}",
                where=where,
                do=f"check its name and MLFLOW_TRACKING_URI, which is {settings.tracking}",
            ) from error
        if not found.is_dir():
            _look(found, found.suffix, where)
            kept, name = _keep_files({found.name: found}, where, session), found.name
        else:
            kept, name = _keep_files(files_in(found, where), where, session), ""
    return remember(uri, kept, name, session)


def _refuse_format(name: str, where: str, session: Session) -> None:
    """Refuse a file of a format that is off for a recipe of this origin."""
    reason = why_off(name, from_afar=not session.access.by_a_person)
    if reason is not None:
        raise InputError(reason, where=where, do="give a Keras, ONNX or transformers model")


def _keep(files: dict[str, Path], where: str, session: Session) -> str:
    """Store files by name; returns their place."""
    return _keep_files(files, where, session).uri


def _keep_files(files: dict[str, Path], where: str, session: Session) -> Artifact:
    """Store files by name. The same files are read once."""
    for name in files:
        _refuse_format(name, where, session)
    seen = [(name, str(p), (s := p.stat()).st_size, s.st_mtime_ns) for name, p in files.items()]
    record = f"sources/{hashlib.sha256(repr(sorted(seen)).encode()).hexdigest()}.json"
    known = session.store.read_record(record)
    if known is not None:
        with contextlib.suppress(ValueError):  # of another version
            artifact = session.store.located(Artifact.model_validate(known))
            if session.store.holds(artifact):
                return artifact
    with scratch_folder("model") as folder:
        for relative, path in files.items():
            copy_regular(path, Path(folder) / relative, where)
        artifact = _put(Path(folder), "model", session)
    if not session.dry:
        session.store.write_record(record, artifact.model_dump(mode="json"))
    return artifact


def _put(folder: Path, kind: str, session: Session) -> Artifact:
    if session.dry:
        return session.store.located(describe(folder, kind, ""))
    return session.store.put(folder, kind)


def _keep_weights(given: str, field: str, session: Session) -> str:
    """Store a safetensors file; returns its place in the store."""
    return _once(lambda: _weights(given, field, session), given, session)


def _weights(given: str, field: str, session: Session) -> str:
    where = f"{field}: {given}"
    url = session.access.place(session.with_secrets(given), field, session.place)
    if "://" not in url:
        real = session.access.file(Path(url), where)
        if not real.exists() or real.is_dir():
            raise InputError(
                "there is no such file",
                where=where,
                do=f"give a path from the recipe's folder, or an absolute one; looked at {url}",
            )
        open_regular(real, where).close()
        _look_at_weights(real, where)
        return f"{_keep({WEIGHTS: real}, where, session)}/{WEIGHTS}"
    if session.dry:
        return recalled(given, WEIGHTS, where, session)
    with scratch_folder("weights") as folder:
        local = Path(folder) / WEIGHTS
        try:
            fetch(url, local, session.access, where)
        except HoneError:
            raise
        except Exception as error:
            raise InputError(
                f"the weights can't be read: {telling(error)}",
                where=where,
                do="give a file, or a URL whose fsspec package is installed",
            ) from None
        _look_at_weights(local, where)
        kept = _put(Path(folder), "weights", session)
    return remember(given, kept, WEIGHTS, session)


def _look_at_weights(path: Path, where: str) -> None:
    """Refuse a file that is not safetensors, by its header."""
    from safetensors import SafetensorError, safe_open

    problem = safetensors_problem(path)
    if problem is None:
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            problem = telling(error)
    if problem is not None:
        raise unusable_weights(problem, where)
