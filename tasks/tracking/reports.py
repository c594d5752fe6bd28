"""Find runs in MLflow, and read the files of their reports."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from ...recipe.errors import HoneError, InputError
from ...recipe.library_messages import telling
from ...recipe.showable import showable
from . import names
from .health import require_answer
from .lookup import found_or_none
from .tracker import quiet_mlflow

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_QUOTES = re.compile(r"['\"`]")


def report_file(tracking: str, named: str, file: str) -> tuple[str, str]:
    """A file of the report of a run.

    Args:
        tracking: MLflow.
        named: The run's id, or the name of a recipe, whose last run is meant; empty: the last run.
        file: Its path among the run's artifacts.

    Returns:
        The run's id, and the text of the file.

    Raises:
        InputError: There is no such run, or it has no report.
        ServerUnreachable: MLflow does not answer.
    """
    quiet_mlflow()
    require_answer(tracking)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking, registry_uri=tracking)
    run_id = _run_id(client, tracking, named)
    return run_id, _text(client, run_id, file)


def _run_id(client: Any, tracking: str, named: str) -> str:
    if _RUN_ID.fullmatch(named):
        if found_or_none(lambda: client.get_run(named)) is None:
            raise InputError(f"there is no run {named}", where=showable(tracking))
        return named
    if _QUOTES.search(named):
        raise InputError(f"{named} is neither the id of a run nor the name of a recipe")
    wanted = [f"tags.`{names.KIND}` = 'pipeline'", "attributes.status = 'FINISHED'"]
    if named:
        wanted.append(f"tags.`{names.RECIPE}` = '{named}'")
    found = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        " and ".join(wanted),
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    if not found:
        of = f"of the recipe {named}" if named else "of any recipe"
        raise InputError(
            f"there is no finished run {of}",
            where=showable(tracking),
            do="hone run RECIPE, or give the id of an MLflow run",
        )
    return str(found[0].info.run_id)


def _text(client: Any, run_id: str, file: str) -> str:
    if file not in {item.path for item in client.list_artifacts(run_id)}:
        raise InputError(
            f"the run {run_id} has no report",
            do="run its recipe again: nothing is computed twice",
        )
    with tempfile.TemporaryDirectory(prefix="hone-report-") as folder:
        try:
            return Path(client.download_artifacts(run_id, file, folder)).read_text()
        except Exception as error:
            raise HoneError(
                f"the report of the run {run_id} can't be read: {telling(error)}"
            ) from error
