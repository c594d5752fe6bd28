"""Files of runs: the newest run that came to its end, also one without a champion."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.run_files import read_run_file

from ...support.logged_models import store


@pytest.fixture
def uri(databases: Path, tmp_path: Path) -> str:
    return store(databases, tmp_path)


def test_the_newest_run_of_a_recipe_or_of_all(uri: str, tmp_path: Path) -> None:
    client = mlflow.MlflowClient(uri)

    def run(recipe: str, text: str, status: str) -> str:
        found = client.get_experiment_by_name(recipe)
        place = str(tmp_path / "artifacts")
        experiment = found.experiment_id if found else client.create_experiment(recipe, place)
        made = client.create_run(experiment, tags={names.WHY: text}).info.run_id
        client.log_text(made, text, "report.html")
        client.set_terminated(made, status)
        return str(made)

    with pytest.raises(InputError, match="no run of a recipe came to its end"):
        read_run_file(uri, "", "report.html", "report")
    run("wine", "won", "FINISHED")
    lost = run("wine", "no candidate passed", "FAILED")
    other = run("digits", "of digits", "FINISHED")
    assert read_run_file(uri, "wine", "report.html", "report") == (lost, "no candidate passed")
    assert read_run_file(uri, "", "report.html", "report") == (other, "of digits")
    with pytest.raises(InputError, match="the run has no model card"):
        read_run_file(uri, lost, "model_card.md", "model card")
    with pytest.raises(InputError, match="neither a run of this id"):
        read_run_file(uri, "O'Neill", "report.html", "report")
