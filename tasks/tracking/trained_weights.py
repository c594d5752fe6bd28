"""The weights that a run of Hone trained, found from what came of them in MLflow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...recipe.errors import InputError
from ...recipe.library_messages import telling
from . import names
from .lookup import named_version
from .tracker import quiet_mlflow

_RUN = re.compile(r"^runs:/([0-9a-f]{32})(?:/.*)?$")
_VERSION = re.compile(r"^models:/([^/@]+)(?:/(\d+)|@(.+))$")


def download_trained_weights(uri: str, tracking: str, folder: str, where: str) -> Path:
    """The file of weights behind a registered version or a run.

    Args:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, or `runs:/RUN` of a run of Hone.
        tracking: The tracking server, which is the registry too.
        folder: Where to write it.
        where: What the URI is for, as an error calls it.

    Raises:
        InputError: There is no such version or run, or Hone did not train what is in it.
    """
    quiet_mlflow()
    import mlflow

    client = mlflow.MlflowClient(tracking, registry_uri=tracking)
    try:
        run = _training_run(client, client.get_run(_run_of(client, uri, where)))
        found = None
        if run is not None:
            found = mlflow.artifacts.download_artifacts(
                run_id=run.info.run_id, artifact_path="weights", dst_path=folder,
                tracking_uri=tracking,
            )  # fmt: skip
    except mlflow.exceptions.MlflowException as error:
        raise InputError(
            f"MLflow can't provide it: {telling(error)}",
            where=f"{where}: {uri}",
            do="give models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN",
        ) from None
    files = sorted(Path(found).glob("*.safetensors")) if found else []
    if len(files) != 1:
        raise InputError(
            "there are no weights that Hone trained behind it",
            where=f"{where}: {uri}",
            do="give a version or a run of Hone's; another model goes into the recipe as "
            "model.source",
        )
    return files[0]


def _run_of(client: Any, uri: str, where: str) -> str:
    """The run that a URI means."""
    if match := _RUN.match(uri):
        return match.group(1)
    match = _VERSION.match(uri)
    if match is None:
        raise InputError(
            "this is no version and no run",
            where=f"{where}: {uri}",
            do="give models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN",
        )
    name, number, alias = match.groups()
    version = named_version(client, name, number or f"@{alias}")
    run = version.tags.get(names.PARENT_RUN) or version.run_id
    if not run:
        raise InputError("the version names no run that it came from", where=f"{where}: {uri}")
    return str(run)


def _training_run(client: Any, run: Any) -> Any:
    """The run in which the weights were trained: a child of a run of Hone, or an earlier one."""
    if run.data.tags.get(names.KIND) not in (None, "candidate") and _has_weights(client, run):
        return run
    parent = run.data.tags.get(names.MLFLOW_PARENT, run.info.run_id)
    children = client.search_runs(
        [run.info.experiment_id],
        f"tags.`{names.MLFLOW_PARENT}` = '{parent}' and tags.`mlflow.runName` = '{names.TRAINING}'",
        max_results=1,
    )
    if not children:
        return None
    found = children[0]
    if not _has_weights(client, found):
        earlier = found.data.tags.get(names.computed_in("train"))
        found = client.get_run(earlier) if earlier else None
    return found


def _has_weights(client: Any, run: Any) -> bool:
    return any(item.path == "weights" for item in client.list_artifacts(run.info.run_id))
