"""Today's champion with its files, for a run that compares its candidates with it.

Its files are compared with the digest of what was measured before anything opens them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...recipe.errors import HoneError
from ...recipe.library_messages import telling
from ...runtimes.errors import RuntimeFailed
from ...runtimes.served_model import DATA, FILES, ModelDescription, artifact_digest
from ..todays_champion import TodaysChampion
from . import names
from .away import insist
from .first_opening import alone, embedded_file, schema_problem
from .lookup import version_of
from .registered_bytes import fetched, location, required_version, verify_version
from .tracker import quiet_mlflow


@contextlib.contextmanager
def todays_champion(
    tracking: str, model: str, alias: str, wait: float = 20.0
) -> Iterator[tuple[TodaysChampion, Path | None]]:
    """The version that has an alias now, and the folder of its artifact.

    The folder is None where there is no champion yet, or where it can't be compared with: then the
    champion says why.

    Args:
        tracking: The tracking server, which is the registry too.
        model: The registered model.
        alias: The alias.
        wait: How long to wait for a server that is away (s).
    """
    nobody = TodaysChampion(model=model, alias=alias)
    database = embedded_file(tracking)
    if database is not None and not database.exists():
        yield nobody, None  # and `hone plan` makes no store
        return
    quiet_mlflow()
    import mlflow

    with contextlib.ExitStack() as stack:
        try:
            with alone(tracking):
                client = mlflow.MlflowClient(tracking, registry_uri=tracking)
                version = insist(
                    lambda: version_of(client, model, alias),
                    tracking,
                    wait,
                    "the champion is unknown",
                )
        except Exception as error:
            yield nobody.model_copy(update={"problem": _told(error, tracking)}), None
            return
        if version is None:
            yield nobody, None
            return
        found = _described(nobody, version)
        try:
            folder = stack.enter_context(verified_files(tracking, client, version))
        except Exception as error:
            yield found.model_copy(update={"problem": _told(error, tracking)}), None
            return
        yield found.model_copy(update={"sha256": artifact_digest(folder.parent)}), folder


def _told(error: Exception, tracking: str) -> str:
    known = schema_problem(error, tracking)
    if known is None and isinstance(error, HoneError):
        known = error
    return telling(error) if known is None else known.what


@contextlib.contextmanager
def verified_version(tracking: str, model: str, version: str) -> Iterator[Path]:
    """The folder of what Hone wrote of a version, whose files are the measured ones.

    Args:
        tracking: The tracking server, which is the registry too.
        model: The registered model.
        version: Its version, or `@ALIAS`.

    Raises:
        InputError: There is no such version.
        HoneError: Its files are not the measured ones, or can't be read.
    """
    with verified_files(tracking, *required_version(tracking, model, version)) as artifact:
        yield artifact.parent


def _described(nobody: TodaysChampion, version: Any) -> TodaysChampion:
    tags = dict(version.tags)
    return nobody.model_copy(
        update={
            "version": str(version.version),
            "candidate": tags.get(names.CANDIDATE, "a model that Hone did not register"),
            "digest": tags.get(names.DIGEST, ""),
            "sha256": tags.get(names.SHA256, ""),
        }
    )


@contextlib.contextmanager
def verified_files(tracking: str, client: Any, version: Any) -> Iterator[Path]:
    """The folder of a version's artifact, whose files are the measured ones.

    Raises:
        HoneError: They are not, or can't be read.
    """
    verdict = verify_version(tracking, client, version)
    if not verdict.holds:
        raise HoneError(verdict.sentence)
    with fetched(tracking, location(client, version)) as model:
        data = None if model is None else model / DATA
        if data is None or not data.is_dir():
            raise HoneError("its files can't be fetched from MLflow")
        try:
            described = ModelDescription.read(data)
            held = artifact_digest(data)
        except (RuntimeFailed, ValueError) as error:
            raise HoneError(telling(error)) from None
        if described.sha256 != held:
            raise HoneError("its artifact is not the one that was measured")
        yield data / FILES
