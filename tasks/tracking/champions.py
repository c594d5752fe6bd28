"""What the registry says of a version: where it comes from, and what was measured of it."""

from __future__ import annotations

from pydantic import Field

from ...recipe.errors import InputError
from ...recipe.library_messages import telling
from ...recipe.strict import Strict
from . import names
from .away import insist
from .lookup import named_version
from .tracker import quiet_mlflow


class RegisteredVersion(Strict):
    """A version of a registered model that Hone registered.

    Attributes:
        model: Name of the registered model.
        version: Its number.
        candidate: `VARIANT@TARGET`.
        sha256: Of the compiled artifact.
        recipe_digest: Of the recipe that it was measured under.
        parent_run: MLflow's id of the run that measured it.
        metrics: What was measured then, under MLflow's names.
    """

    model: str
    version: str
    candidate: str
    sha256: str
    recipe_digest: str
    parent_run: str
    metrics: dict[str, float] = Field(default_factory=dict)


def read_version(tracking: str, model: str, which: str) -> RegisteredVersion:
    """A version of a registered model, by its alias or number.

    Args:
        tracking: The tracking server, which is the registry too.
        model: Name of the registered model.
        which: An alias or a number.

    Raises:
        InputError: There is none, or Hone did not register it.
    """
    quiet_mlflow()
    import mlflow

    client = mlflow.MlflowClient(tracking, registry_uri=tracking)
    shown = f"models:/{model}/{which}" if which.isdigit() else f"models:/{model}@{which}"
    try:
        version = named_version(client, model, which)
        tags = dict(version.tags)
        logged = client.get_logged_model(version.model_id) if version.model_id else None
    except mlflow.exceptions.MlflowException as error:
        raise InputError(
            f"MLflow can't provide it: {telling(error)}",
            where=shown,
            do="check the name, the alias and MLFLOW_TRACKING_URI",
        ) from None
    wanted = (names.CANDIDATE, names.SHA256, names.RECIPE_DIGEST, names.PARENT_RUN)
    missing = [name for name in wanted if name not in tags]
    if missing:
        raise InputError(
            f"the version has no evidence: it lacks the tag {missing[0]}",
            where=shown,
            do="register models through a run of Hone, which measures them",
        )
    metrics = {metric.key: float(metric.value) for metric in (logged.metrics if logged else [])}
    return RegisteredVersion(
        model=model,
        version=str(version.version),
        candidate=tags[names.CANDIDATE],
        sha256=tags[names.SHA256],
        recipe_digest=tags[names.RECIPE_DIGEST],
        parent_run=tags[names.PARENT_RUN],
        metrics=metrics,
    )


def registered_artifacts(tracking: str) -> list[str]:
    """sha256 of the compiled artifact of every version in the registry.

    Raises:
        ServerUnreachable: MLflow does not answer.
    """
    quiet_mlflow()
    import mlflow

    client = mlflow.MlflowClient(tracking, registry_uri=tracking)

    def work() -> list[str]:
        found: list[str] = []
        token = None
        while True:
            page = client.search_model_versions(max_results=1000, page_token=token)
            found += [v.tags[names.SHA256] for v in page if names.SHA256 in v.tags]
            token = page.token
            if not token:
                return found

    return insist(work, tracking, 20.0, "what it needs is unknown")
