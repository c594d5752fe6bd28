"""The in-toto statement on where a registered version comes from, as its run has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from ...ray_workers.scratch import scratch_folder
from . import names
from .away import is_away
from .lookup import found_or_none
from .registered_bytes import required_version

#: File of the statement in a candidate's run.
PROVENANCE = "provenance.intoto.json"
_LARGEST = 4_000_000  # characters


class Stated(NamedTuple):
    """What is stated of a version.

    Attributes:
        run_id: The run of the candidate that it was made from; empty if there is none.
        recipe_digest: As the registry has it; None if it has none.
        text: The statement; None if there is none.
        why: Why there is none.
    """

    run_id: str
    recipe_digest: str | None
    text: str | None = None
    why: str = ""


def stated(tracking: str, name: str, version: str) -> Stated:
    """Read the statement on a version.

    Args:
        tracking: The tracking server, which is the registry too.
        name: The registered model.
        version: Its version, or `@ALIAS`.

    Raises:
        InputError: There is no such version.
        Exception: MLflow's own error: it is away.
    """
    client, found = required_version(tracking, name, version)
    run_id, digest = _run_of(client, found), dict(found.tags).get(names.RECIPE_DIGEST)
    if not run_id:
        return Stated("", digest, why="no run of this server made it")
    with scratch_folder("statement") as scratch:
        import mlflow

        try:
            path = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=PROVENANCE, dst_path=str(scratch),
                tracking_uri=tracking,
            )  # fmt: skip
        except Exception as error:  # each kind of artifact store has its own
            if is_away(error):
                raise
            return Stated(run_id, digest, why=f"run {run_id} has no {PROVENANCE}")
        if Path(path).stat().st_size > _LARGEST:
            return Stated(run_id, digest, why=f"{PROVENANCE} of run {run_id} is too large")
        return Stated(run_id, digest, Path(path).read_text(encoding="utf-8", errors="replace"))


def _run_of(client: Any, version: Any) -> str:
    """The run of the candidate that a version is; empty if there is none.

    A model that a later run would log again is used again. So first comes the run that registered
    the version, whose recipe it has, then the one that logged its model.
    """
    tags = dict(version.tags)
    run_id = _candidate_in(client, tags.get(names.PARENT_RUN, ""), tags.get(names.CANDIDATE, ""))
    if run_id:
        return run_id
    model_id = str(getattr(version, "model_id", None) or "")
    logged = found_or_none(lambda: client.get_logged_model(model_id)) if model_id else None
    return str((logged and logged.source_run_id) or version.run_id or "")


def _candidate_in(client: Any, parent: str, candidate: str) -> str:
    """The run of a candidate among those of a whole run; empty if there is none."""
    if re.fullmatch(r"[0-9a-f]{32}", parent) is None:
        return ""
    whole = found_or_none(lambda: client.get_run(parent))
    if whole is None:
        return ""
    children = client.search_runs(
        [whole.info.experiment_id], f"tags.`{names.MLFLOW_PARENT}` = '{parent}'"
    )
    named = [run for run in children if run.data.tags.get(names.CANDIDATE) == candidate]
    return str(named[0].info.run_id) if named else ""
