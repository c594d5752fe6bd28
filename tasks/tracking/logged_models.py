"""Models in MLflow, as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .global_uris import global_uris

_SQLITE = "sqlite:///"
_MOST_STEPS = 5  # from a version to a run or to another model


def download(uri: str, tracking: str, folder: str, permit: Callable[[str], None]) -> Path:
    """The files of a model.

    Args:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN/NAME`.
        tracking: The tracking server, which is the registry too.
        folder: Where to write them.
        permit: Raises if a model's files may not be read where the server says that they are.

    Raises:
        Exception: MLflow's own error, or that of `permit`.
    """
    import mlflow

    with global_uris(tracking):
        found = locate(uri, tracking, permit)
        if uri.startswith("models:/") and len(found) == 1:  # an alias may move in the meantime
            uri = found[0]
        return Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=folder, tracking_uri=tracking
            )
        )


def locate(uri: str, tracking: str, permit: Callable[[str], None]) -> list[str]:
    """Where a model's files are, all of them permitted; nothing is downloaded.

    Args:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN/NAME`.
        tracking: The tracking server, which is the registry too.
        permit: Raises if a model's files may not be read where the server says that they are.

    Raises:
        Exception: MLflow's own error, or that of `permit`.
    """
    with global_uris(tracking):
        found = list(locations(uri, tracking))
    for location in found:
        permit(location)
    return found


def locations(uri: str, tracking: str) -> Iterator[str]:
    """Where the server says that a model's files are; MLflow looks at each of them."""
    if tracking.startswith(_SQLITE) and not Path(tracking.removeprefix(_SQLITE)).exists():
        raise ValueError("its database does not exist yet")  # MLflow would create it
    from mlflow import MlflowClient
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

    waiting = [uri]
    for _ in range(_MOST_STEPS):
        found: list[str] = []
        for each in waiting:
            if each.startswith("models:/"):
                whole, path = ModelsArtifactRepository.split_models_uri(each)
                location = ModelsArtifactRepository.get_underlying_uri(whole).rstrip("/")
                found.append(f"{location}/{path}" if path else location)
            elif each.startswith("runs:/"):
                found.append(RunsArtifactRepository.get_underlying_uri(each, tracking))
                found += _models_of_run(MlflowClient(tracking), each)
            else:
                yield each
        waiting = found
    if waiting:
        raise ValueError(f"it refers to other models more than {_MOST_STEPS} times")


def _models_of_run(client: Any, uri: str) -> Iterator[str]:
    """Where the models of a run with the name in `runs:/RUN/NAME` are."""
    run_id, _, path = uri.removeprefix("runs:/").partition("/")
    name = path.partition("/")[0]
    if not name:
        return
    if "'" in name:
        raise ValueError("the name of a model has no quotes")
    experiment, token = client.get_run(run_id).info.experiment_id, None
    while True:
        page = client.search_logged_models(
            experiment_ids=[experiment], filter_string=f"name = '{name}'", page_token=token
        )
        yield from (model.artifact_location for model in page if model.source_run_id == run_id)
        token = page.token
        if not token:
            return
