"""Promote: the winner as a model version, checked byte by byte, then the alias.

Nothing is promoted that was not measured: what MLflow holds is read back, and its sha256 must be
that of the artifact that was measured, before the alias moves.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ...recipe.errors import HoneError, ServerUnreachable
from ...recipe.strict import Strict
from ...runtimes.served_model import DESCRIPTION, artifact_digest
from .sender import is_away

PREVIOUS = "previous"
T = TypeVar("T")


class Promotion(Strict):
    """What became of the winner.

    Attributes:
        model: The registered model.
        version: Its version.
        alias: The alias that points to it.
        new: Whether the version is new; else the same bytes under the same recipe had it already.
        previous: The version that had the alias before, if another one had it.
    """

    model: str
    version: str
    alias: str
    new: bool
    previous: str | None


def promote(
    uri: str,
    model: str,
    alias: str,
    model_id: str,
    sha256: str,
    tags: dict[str, str],
    wait: float = 120,
) -> Promotion:
    """Register a logged model and move the alias to it.

    Args:
        uri: The tracking server, which is the registry too.
        model: Name of the registered model.
        alias: The alias to move; the version that had it gets `previous`.
        model_id: The LoggedModel.
        sha256: Of the artifact that was measured.
        tags: Of the new version.
        wait: How long to wait for a server that is away (s).

    Raises:
        HoneError: What MLflow holds is not what was measured.
        ServerUnreachable: The server stayed away.
    """
    import mlflow

    client = mlflow.MlflowClient(uri, registry_uri=uri)

    def work() -> Promotion:
        _ensure_model(client, model)
        before = _version_of(client, model, alias)
        if before is not None and _is_same(before, sha256, tags):
            return Promotion(
                model=model, version=str(before.version), alias=alias, new=False, previous=None
            )
        _verify(uri, model_id, sha256)
        version = _find_version(client, model, sha256, tags)
        new = version is None
        if version is None:
            version = client.create_model_version(
                model, source=f"models:/{model_id}", tags=tags, model_id=model_id
            )
        if before is not None and str(before.version) != str(version.version):
            client.set_registered_model_alias(model, PREVIOUS, before.version)
        client.set_registered_model_alias(model, alias, version.version)
        return Promotion(
            model=model,
            version=str(version.version),
            alias=alias,
            new=new,
            previous=None if before is None else str(before.version),
        )

    return _insist(work, uri, wait)


def _insist(work: Callable[[], T], uri: str, wait: float) -> T:
    """Try again while the server is away. Every part of promoting can be done twice."""
    deadline = time.monotonic() + wait
    while True:
        try:
            return work()
        except Exception as error:
            if not is_away(error):
                raise
            if time.monotonic() > deadline:
                raise ServerUnreachable(
                    f"MLflow did not answer for {wait:.0f} s; the winner is measured but not "
                    "registered",
                    where=uri,
                    do="run again when it is back: nothing is computed twice",
                ) from error
            time.sleep(1)


def _ensure_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags={"hone": "true"})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of(client: Any, model: str, alias: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _is_same(version: Any, sha256: str, tags: dict[str, str]) -> bool:
    held = dict(version.tags)
    digest = "hone.recipe_digest"
    return held.get("hone.sha256") == sha256 and held.get(digest) == tags.get(digest)


def _find_version(client: Any, model: str, sha256: str, tags: dict[str, str]) -> Any:
    """A version of these bytes under this recipe, such as a killed run left without an alias."""
    for version in client.search_model_versions(f"name = '{model}'", max_results=200):
        if _is_same(version, sha256, tags):
            return version
    return None


def _verify(uri: str, model_id: str, sha256: str) -> None:
    import mlflow

    with tempfile.TemporaryDirectory(prefix="hone-verify-") as scratch:
        folder = Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{model_id}", dst_path=scratch, tracking_uri=uri
            )
        )
        described = next(folder.rglob(DESCRIPTION), None)
        held = None if described is None else artifact_digest(described.parent)
    if held != sha256:
        raise HoneError(
            f"MLflow holds other bytes than those that were measured (sha256 {str(held)[:12]}, "
            f"measured {sha256[:12]}); nothing was promoted",
            where=f"models:/{model_id}",
            do="delete the logged model and run again",
        )
