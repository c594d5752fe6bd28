"""Text files of a run as MLflow keeps them, by the run's id or the name of its recipe."""

from __future__ import annotations

from typing import Any

from ...recipe.errors import InputError
from ...recipe.library_messages import telling
from . import names
from .away import insist
from .lookup import found_or_none
from .tracker import quiet_mlflow

_NEWEST = 50  # runs that are looked at; those that ended early have no outcome
_ORDER = ["attributes.start_time DESC"]


def read_run_file(
    tracking: str, which: str, file: str, what: str, wait: float = 20.0
) -> tuple[str, str]:
    """A text file of a run that came to its end, whether or not it has a champion.

    Args:
        tracking: The tracking server.
        which: MLflow's id of the run, or of one of its candidates' runs; or the name of a recipe,
            for its newest run; empty: the newest run of all recipes.
        file: Its path among the run's artifacts.
        what: What the file is, for errors.
        wait: How long to wait for a server that is away (s).

    Returns:
        The run's id, and the text.

    Raises:
        InputError: There is no such run, or it has no such file.
        ServerUnreachable: The server stayed away.
    """
    quiet_mlflow()
    import mlflow

    client = mlflow.MlflowClient(tracking, registry_uri=tracking)

    def work() -> tuple[str, str]:
        run_id = _run_id(client, which)
        return run_id, str(mlflow.artifacts.load_text(_place(client, run_id, file)))

    try:
        return insist(work, tracking, wait, "nothing was read")
    except mlflow.exceptions.MlflowException as error:
        raise InputError(
            f"the run has no {what}: {telling(error)}",
            where=f"run {which}",
            do="give a run that came to its end; `hone run` names it in its last lines",
        ) from None


def _place(client: Any, run_id: str, file: str) -> str:
    return f"{str(client.get_run(run_id).info.artifact_uri).rstrip('/')}/{file}"


def _run_id(client: Any, which: str) -> str:
    """MLflow's id of the run of a recipe.

    Raises:
        InputError: There is none.
    """
    run = found_or_none(lambda: client.get_run(which)) if which else None
    if run is not None:
        return str(run.data.tags.get(names.MLFLOW_PARENT, which))
    if which:
        experiment = client.get_experiment_by_name(which)
        experiments = [] if experiment is None else [experiment]
    else:
        experiments = client.search_experiments()
    if experiments:
        ids = [experiment.experiment_id for experiment in experiments]
        for found in client.search_runs(ids, order_by=_ORDER, max_results=_NEWEST):
            if names.WHY in found.data.tags:
                return str(found.info.run_id)
    if not which:
        raise InputError("no run of a recipe came to its end yet", do="hone run RECIPE")
    raise InputError(
        "there is neither a run of this id nor a run of a recipe of this name that came to its end",
        where=f"run {which}",
        do="give the id that `hone run` or MLflow shows, or the name of the recipe",
    )
