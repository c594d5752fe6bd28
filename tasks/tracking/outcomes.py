"""The outcome of a run as MLflow keeps it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ...recipe.errors import InputError
from ...recipe.library_messages import telling
from ..outcome import Outcome
from . import names
from .away import insist
from .lookup import found_or_none
from .tracker import quiet_mlflow

#: The file in a run of a recipe.
OUTCOME = "outcome.json"
_NEWEST = 50  # of an experiment's runs; those that ended early have no outcome


def read_outcome(tracking: str, which: str, wait: float = 20.0) -> Outcome:
    """The outcome of a run.

    Args:
        tracking: The tracking server.
        which: MLflow's id of the run, or of one of its candidates' runs; or the name of a recipe,
            for its newest run.
        wait: How long to wait for a server that is away (s).

    Raises:
        InputError: There is no such run, or it has no outcome.
        ServerUnreachable: The server stayed away.
    """
    quiet_mlflow()
    import mlflow

    client = mlflow.MlflowClient(tracking, registry_uri=tracking)

    def work() -> tuple[str, str]:
        run_id = _run_id(client, which)
        return run_id, str(mlflow.artifacts.load_text(_place(client, run_id)))

    where = f"run {which}"
    try:
        run_id, text = insist(work, tracking, wait, "nothing was read")
    except mlflow.exceptions.MlflowException as error:
        raise InputError(
            f"the run has no outcome: {telling(error)}",
            where=where,
            do="give a run that came to its end; `hone run` names it in its last lines",
        ) from None
    try:
        return Outcome.model_validate_json(text)
    except ValidationError:
        raise InputError(
            f"{OUTCOME} of run {run_id} was written by another version of Hone",
            where=where,
            do="read outcome.md beside it in MLflow",
        ) from None


def _place(client: Any, run_id: str) -> str:
    return f"{str(client.get_run(run_id).info.artifact_uri).rstrip('/')}/{OUTCOME}"


def _run_id(client: Any, which: str) -> str:
    """MLflow's id of the run of a recipe.

    Raises:
        InputError: There is none.
    """
    run = found_or_none(lambda: client.get_run(which))
    if run is not None:
        return str(run.data.tags.get(names.MLFLOW_PARENT, which))
    experiment = client.get_experiment_by_name(which)
    if experiment is not None:
        for found in client.search_runs(
            [experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=_NEWEST
        ):
            if names.WHY in found.data.tags:
                return str(found.info.run_id)
    raise InputError(
        "there is neither a run of this id nor a run of a recipe of this name that came to its end",
        where=f"run {which}",
        do="give the id that `hone run` or MLflow shows, or the name of the recipe",
    )
