"""The session: what a recipe may call, and that a flow without a command line grants nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import made_runs as made
import pytest
from made_runs import recipe
from prefect_hone.flows.engine.plan import Plan
from prefect_hone.flows.engine.request import as_text, open_request
from prefect_hone.flows.engine.session import Session, new_session, use
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.schema import Recipe

DIGITS = {
    "model": {"factory": "prefect_hone.recipe.examples.digits.digits_model:small_resnet"},
    "data": {"factory": "prefect_hone.recipe.examples.digits.digits_data:digits"},
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_HOME", str(tmp_path))
    for name in ("HONE_ALLOWED_PREFIXES", "HONE_STORE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def bundled(**changed: object) -> Recipe:
    return recipe(**{**DIGITS, **changed})


def current(asked: Recipe) -> Session:
    return open_request(as_text(asked))[1]


def test_a_flow_that_a_worker_starts_has_a_session_of_its_own(tmp_path: Path) -> None:
    session = current(bundled())
    assert session.settings.home == tmp_path
    assert session.owns_cluster
    assert session.plan is None
    assert session.code is None


def test_it_can_not_grant_itself_a_code_folder() -> None:
    with pytest.raises(InputError, match="only for a recipe file") as caught:
        current(bundled(code="."))
    assert "HONE_ALLOWED_PREFIXES" in str(caught.value)


def test_factories_outside_the_allowed_prefixes_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match=r"os") as caught:
        current(bundled(model={"factory": "os:system"}))
    assert "model.factory" in str(caught.value)


def test_the_commands_session_is_the_flows_and_no_other_threads(tmp_path: Path) -> None:
    mine = new_session(bundled(), place=tmp_path)
    elsewhere = []
    with use(mine):
        assert current(bundled()) is mine
        assert current(bundled(code=".")) is mine, "a person at the command line granted it"
        thread = threading.Thread(target=lambda: elsewhere.append(current(bundled())))
        thread.start()
        thread.join()
    assert elsewhere[0] is not mine
    assert current(bundled()) is not mine


def test_what_a_command_planned_is_the_flows_plan_and_the_cluster_the_commands(
    tmp_path: Path,
) -> None:
    before = made.session(tmp_path)
    plan = Plan(recipe(), [], None)  # type: ignore[arg-type]
    handed = before.planned(plan)
    assert handed.plan is plan
    assert not handed.owns_cluster
    assert (handed.store, handed.cluster) == (before.store, before.cluster)
    assert (before.plan, before.owns_cluster) == (None, True), "the session itself stays as it was"
