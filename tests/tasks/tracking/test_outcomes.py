"""The outcome of a run, read back from MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.outcome import Outcome
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.outcomes import OUTCOME, read_outcome

from ...support.logged_models import store

SAID = Outcome(
    recipe="wine", recipe_digest="d", run_id="r", why="it is the only one", baseline={},
    candidates=(), seconds={}, cached=(),
)  # fmt: skip


@pytest.fixture
def uri(databases: Path, tmp_path: Path) -> str:
    return store(databases, tmp_path)


def test_by_a_run_a_candidates_run_or_the_name_of_the_recipe(uri: str, tmp_path: Path) -> None:
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("wine", artifact_location=str(tmp_path / "artifacts"))

    def run(why: str | None, text: str | None, **tags: str) -> str:
        told = tags if why is None else {names.WHY: why, **tags}
        made = client.create_run(experiment, tags=told).info.run_id
        if text is not None:
            client.log_text(made, text, OUTCOME)
        return made

    older = run("a", SAID.model_dump_json())
    newer = run("b", SAID.model_copy(update={"why": "newer"}).model_dump_json())
    child = run(None, None, **{names.MLFLOW_PARENT: older})
    ended = run(None, None)
    assert read_outcome(uri, older).why == read_outcome(uri, child).why == SAID.why
    assert read_outcome(uri, newer).why == read_outcome(uri, "wine").why == "newer"
    for which, said in (
        (ended, "the run has no outcome"),
        ("nothing", "neither a run of this id nor a run of a recipe"),
        (run("c", json.dumps({"recipe": "wine", "more": 1})), "by another version of Hone"),
    ):
        with pytest.raises(InputError, match=said):
            read_outcome(uri, which)
