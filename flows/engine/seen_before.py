"""What `hone plan` takes for a model that only a run downloads: what the last run got, if any did.

A run notes, for each URL and each model of MLflow that a recipe names, which artifact it became. A
plan downloads nothing: it takes that artifact, and says so; or it says that the model is not looked
at until the run, and what depends on it is to be computed.
"""

from __future__ import annotations

import contextlib
import hashlib

from ...ray_workers.store.artifacts import Artifact
from ...recipe.strict import Strict
from .session import Session


class _Seen(Strict):
    """The record of a download.

    Attributes:
        artifact: What it became.
        name: Of the file in it that the recipe means; empty: the whole folder.
    """

    artifact: Artifact
    name: str = ""


def remember(given: str, artifact: Artifact, name: str, session: Session) -> str:
    """Note what a URL or a model of MLflow became; returns its place in the store.

    Args:
        given: The URL or the model, as the recipe has it, without credentials.
        artifact: What was downloaded.
        name: Of the file in it; empty: the whole folder.
        session: The run's; one that only looks keeps nothing.
    """
    if not session.dry:
        seen = _Seen(artifact=artifact, name=name)
        session.store.write_record(_record(given), seen.model_dump(mode="json"))
    return _place(artifact.uri, name)


def recalled(given: str, name: str, where: str, session: Session) -> str:
    """The place in the store that a plan goes by; what it is goes into the session's notes.

    Args:
        given: The URL or the model, as the recipe has it.
        name: Of the file that it would be; empty: a folder.
        where: The field, and what it names.
        session: The plan's.
    """
    said = session.store.read_record(_record(given))
    if said is not None:
        with contextlib.suppress(ValueError):  # of another version
            seen = _Seen.model_validate(said)
            artifact = session.store.located(seen.artifact)
            if session.store.holds(artifact):
                session.notes.append(
                    f"{where} is taken as the last run got it; a run downloads it again"
                )
                return _place(artifact.uri, seen.name)
    session.notes.append(f"{where} is not looked at until the run")
    unknown = hashlib.sha256(f"not downloaded: {given}".encode()).hexdigest()
    return _place(f"{session.store.shown}/artifacts/{unknown}", name)


def _place(folder: str, name: str) -> str:
    return f"{folder}/{name}" if name else folder


def _record(given: str) -> str:
    return f"sources/{hashlib.sha256(f'downloaded: {given}'.encode()).hexdigest()}.json"
