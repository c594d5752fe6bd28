"""Copy a version with its evidence to another registry, as from staging to production.

The files are verified against the digest that was taken when they were measured, on both sides. The
copy keeps that digest, the verdict and where it comes from; no alias moves.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ...ray_workers.scratch import scratch_folder
from ...recipe.errors import HoneError, InputError
from ...recipe.registry_names import require_names
from ...recipe.showable import showable
from ...runtimes.manifest import model_files
from . import names
from .away import insist
from .global_uris import global_uris
from .lookup import existing_version
from .registered_bytes import fetched, location, verify_version
from .registry import Promotable, Registered, register

_EXPERIMENT = "hone-copies"
_EVIDENCE = ("outcome.json", "outcome.md", "recipe.yaml")
_OF_A_MODEL = (names.DIGEST, names.SHA256, names.CANDIDATE)
_CARRIED = (
    names.CANDIDATE, names.RECIPE, names.VERDICT, names.SOURCE_COMMIT,
)  # fmt: skip


def copy_version(
    source: str,
    target: str,
    model: str,
    version: str,
    *,
    name: str | None = None,
    alias: str = "champion",
    who: str = "",
    wait: float = 120,
) -> Registered:
    """Copy a registered version to another MLflow server's registry.

    Args:
        source: The MLflow server that has it.
        target: The MLflow server that gets it.
        model: The registered model.
        version: Its version.
        name: What the registered model is called there. Default: the same.
        alias: The alias that a promotion there would move.
        who: A person or an account.
        wait: How long to wait for a server that is away (s).

    Raises:
        InputError: There is no such version, it was not measured, or both servers are the same.
        HoneError: Its files are not those that were measured, on either side.
        ServerUnreachable: A server stayed away.
    """
    import mlflow

    require_names(name, alias)
    if source == target:
        raise InputError("the version is in this registry already", where=showable(target))
    ours = mlflow.MlflowClient(source, registry_uri=source)
    theirs = mlflow.MlflowClient(target, registry_uri=target)
    place = f"models:/{model}/{version}"

    def work() -> Registered:
        found = existing_version(ours, model, version)
        tags = dict(found.tags)
        missing = [n for n in (names.DIGEST, names.SHA256, names.RECIPE_DIGEST) if n not in tags]
        if missing:
            raise InputError(
                f"the version has no evidence that it was measured: it lacks the tag {missing[0]}",
                where=place,
                do="copy a version that a run of Hone registered",
            )
        verdict = verify_version(source, ours, found)
        if not verdict.holds:
            raise HoneError(f"{verdict.sentence}; nothing was copied", where=showable(source))
        origin = f"{showable(source)} {place}"
        with fetched(source, location(ours, found)) as folder:
            if folder is None:
                raise HoneError("the version's files are gone", where=place)
            files = model_files(folder)
            experiment = _experiment(theirs)
            run = theirs.create_run(
                experiment,
                run_name=f"{model} {version}",
                tags={names.KIND: "copy", names.COPIED_FROM: origin},
            ).info.run_id
            copied = theirs.create_logged_model(
                experiment,
                name=model,
                source_run_id=run,
                tags={
                    n: tags[n] for n in (names.DIGEST, names.SHA256, names.CANDIDATE) if n in tags
                },
            )
            theirs.log_model_artifacts(copied.model_id, str(folder))
        theirs.finalize_logged_model(copied.model_id, "READY")
        _copy_evidence(ours, theirs, tags.get(names.PARENT_RUN), run, source)
        theirs.set_terminated(run)
        asked = Promotable(
            model=name or model,
            alias=alias,
            model_id=str(copied.model_id),
            sha256=tags[names.SHA256],
            files=files,
            recipe_digest=tags[names.RECIPE_DIGEST],
            description=str(found.description or ""),
            who=who,
            tags={
                **{n: tags[n] for n in _CARRIED if n in tags},
                names.PARENT_RUN: run,
                names.COPIED_FROM: origin,
            },
        )
        with global_uris(target):  # where MLflow looks the version's source up
            return register(target, asked, wait=wait)

    return insist(work, target, wait, "nothing was copied")


def _experiment(client: Any) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(_EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(_EXPERIMENT))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(_EXPERIMENT).experiment_id)


def _copy_evidence(ours: Any, theirs: Any, parent: str | None, run: str, source: str) -> None:
    """What the measuring run said, as files of the copy's run; what is gone is left out."""
    import mlflow

    for file in _EVIDENCE if parent else ():
        with (
            contextlib.suppress(mlflow.exceptions.MlflowException, OSError),
            scratch_folder("copy") as folder,
        ):
            found = mlflow.artifacts.download_artifacts(
                run_id=parent, artifact_path=file, dst_path=str(folder), tracking_uri=source
            )
            theirs.log_artifact(run, found)
