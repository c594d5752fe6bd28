"""Promote: register the winner as a model version, verify its bytes, then move the alias.

Only what was measured is promoted: MLflow's copy is read back, and all its files must be those that
this run measured and logged, before the alias moves, and also where it is to stay as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import Field

from ...recipe.errors import HoneError, ServerUnreachable
from ...recipe.strict import Strict
from ...runtimes.manifest import differences, manifest_digest
from . import names
from .registered_bytes import held_files, version_files
from .sender import is_away

PREVIOUS = "previous"
T = TypeVar("T")


class Promotable(Strict):
    """A logged model that may be promoted, and where it goes.

    Attributes:
        model: Name of the registered model.
        alias: The alias to move; the version that had it gets `previous`.
        model_id: The LoggedModel.
        sha256: Of the artifact that was measured.
        files: sha256 of each file that was logged; MLflow must hold exactly these.
        recipe_digest: Of the recipe that it was measured under.
        description: Of the new version (Markdown).
        model_description: Of the registered model, where nobody has written one.
        tags: Further tags of the new version.
    """

    model: str
    alias: str
    model_id: str
    sha256: str
    files: dict[str, str]
    recipe_digest: str
    description: str = ""
    model_description: str = ""
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def all_tags(self) -> dict[str, str]:
        own = {
            names.SHA256: self.sha256,
            names.RECIPE_DIGEST: self.recipe_digest,
            names.DIGEST: manifest_digest(self.files),
        }
        return {**self.tags, **own}


class Promotion(Strict):
    """The result of a promotion.

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


def promote(uri: str, asked: Promotable, wait: float = 120) -> Promotion:
    """Register a logged model and move the alias to it.

    Args:
        uri: The tracking server, which is the registry too.
        asked: The model, and where it goes.
        wait: How long to wait for a server that is away (s).

    Raises:
        HoneError: MLflow's copy is not what was measured.
        ServerUnreachable: The server stayed away.
    """
    import mlflow

    client = mlflow.MlflowClient(uri, registry_uri=uri)

    def work() -> Promotion:
        _ensure_model(client, asked)
        before = _version_of(client, asked)
        if before is not None and _is_same(before, asked) and _holds(uri, client, before, asked):
            return _promotion(asked, before, new=False)
        _verify(uri, asked)
        version = _find_version(uri, client, asked)
        new = version is None
        if version is None:
            version = client.create_model_version(
                asked.model,
                source=f"models:/{asked.model_id}",
                tags=asked.all_tags,
                description=asked.description or None,
                model_id=asked.model_id,
            )
        if before is not None and str(before.version) != str(version.version):
            client.set_registered_model_alias(asked.model, PREVIOUS, before.version)
        client.set_registered_model_alias(asked.model, asked.alias, version.version)
        return _promotion(asked, version, new, None if before is None else str(before.version))

    return _insist(work, uri, wait)


def _promotion(
    asked: Promotable, version: Any, new: bool, previous: str | None = None
) -> Promotion:
    return Promotion(
        model=asked.model,
        version=str(version.version),
        alias=asked.alias,
        new=new,
        previous=previous,
    )


def _insist(work: Callable[[], T], uri: str, wait: float) -> T:
    """Retry while the server is away. Every part of a promotion is idempotent."""
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


def _ensure_model(client: Any, asked: Promotable) -> None:
    from mlflow.exceptions import MlflowException

    text = asked.model_description or None
    try:
        client.create_registered_model(asked.model, tags={"hone": "true"}, description=text)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if text and not client.get_registered_model(asked.model).description:
            client.update_registered_model(asked.model, description=text)


def _version_of(client: Any, asked: Promotable) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(asked.model, asked.alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _is_same(version: Any, asked: Promotable) -> bool:
    held = dict(version.tags)
    return (
        held.get(names.DIGEST) == manifest_digest(asked.files)
        and held.get(names.RECIPE_DIGEST) == asked.recipe_digest
    )


def _find_version(uri: str, client: Any, asked: Promotable) -> Any:
    """A version of these bytes under this recipe, such as one that a killed run left behind."""
    for version in client.search_model_versions(f"name = '{asked.model}'", max_results=200):
        if _is_same(version, asked) and _holds(uri, client, version, asked):
            return version
    return None


def _holds(uri: str, client: Any, version: Any, asked: Promotable) -> bool:
    """Whether a version holds exactly the measured files; its tags are anybody's."""
    return version_files(uri, client, version) == asked.files


def _verify(uri: str, asked: Promotable) -> None:
    """Compare all files of the logged model with those that this run measured and logged.

    Raises:
        HoneError: They differ.
    """
    wrong = differences(asked.files, held_files(uri, asked.model_id))
    if wrong or not asked.files:
        which = f"{wrong[0]} differs" if wrong else "nothing was logged"
        raise HoneError(
            f"MLflow holds other bytes than those that were measured ({which}); nothing was "
            "promoted",
            where=f"models:/{asked.model_id}",
            do="delete the logged model and run again",
        )
