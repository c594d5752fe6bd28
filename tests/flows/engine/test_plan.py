"""The plan: which steps are kept, which would be computed, and what each of these needs."""

from __future__ import annotations

from pathlib import Path

import made_runs as made
import pytest
from made_runs import CHECKED, OverAtOnce, recipe
from prefect_hone.flows.engine import plan as engine
from prefect_hone.flows.engine.memory_plan import plan_memory
from prefect_hone.flows.engine.plan import Plan, make_plan, needs
from prefect_hone.flows.engine.records import record_name
from prefect_hone.flows.engine.session import Session
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.compile import Unavailable
from prefect_hone.tasks.keys import cache_key
from prefect_hone.tasks.steps import Call


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(engine, "here", lambda *_: made.surroundings())
    return made.session(tmp_path)


def keep(session: Session, asked: Recipe, labels: set[str]) -> Plan:
    """Keep the results of these steps, as a run that was ended after them."""
    plan = make_plan(asked, session)
    while waiting := [s for s in plan.steps if not s.cached and s.call.label in labels]:
        for step in waiting:
            _keep(session, step.call)
        before, plan = plan, make_plan(asked, session)
        if [s.cached for s in plan.steps] == [s.cached for s in before.steps]:
            break
    return plan


def _keep(session: Session, call: Call) -> None:
    over = OverAtOnce()
    result = over(call, {}).result
    assert result is not None
    digests = {}
    for name, label in _SOURCES.get(call.label, {}).items():
        digests[name] = made.artifact(label).sha256
    key = cache_key(call, digests, session.user_code)
    session.store.write_record(record_name(call, key), result.done.model_dump(mode="json"))


#: Inputs of steps that the tests keep, by the outputs that `OverAtOnce` makes.
_SOURCES = {
    "reference": {"weights": "train/weights"},
    "export": {"weights": "train/weights", "inputs": "check/calibration"},
}


def test_at_first_everything_would_be_computed(session: Session) -> None:
    plan = make_plan(recipe(), session)
    labels = [step.call.label for step in plan.steps]
    assert labels[:2] == ["check", "train"]
    assert labels[-2:] == ["benchmark", "benchmark again"]
    assert plan.to_compute == plan.steps
    assert plan.starts_workers
    assert {step.seconds for step in plan.steps} == {None}


def test_what_is_kept_is_not_computed(session: Session) -> None:
    plan = keep(session, recipe(), {"check", "train", "export", "reference"})
    kept = {step.call.label for step in plan.steps if step.cached}
    assert kept == {"check", "train", "export", "reference"}
    assert not plan.starts_workers
    assert plan.layout.train.seconds == 1.5


def test_another_training_makes_all_after_it_anew(session: Session) -> None:
    keep(session, recipe(), {"check", "train", "export", "reference"})
    plan = make_plan(recipe(train={"epochs": 3, "batch_size": 8}), session)
    assert {step.call.label for step in plan.steps if step.cached} == {"check"}


def test_gates_and_selection_compute_nothing(session: Session) -> None:
    keep(session, recipe(), {"check", "train"})
    plan = make_plan(recipe(gates=[], select={"minimize": "size.bytes"}), session)
    assert {step.call.label for step in plan.steps if step.cached} == {"check", "train"}


def test_a_model_that_is_not_trained_starts_no_workers(session: Session) -> None:
    asked = recipe(train={"epochs": 0, "batch_size": 8})
    assert not make_plan(asked, session).starts_workers


def test_planning_changes_nothing(session: Session) -> None:
    make_plan(recipe(), session)
    assert not (session.settings.home / "store").exists()


def test_a_target_that_is_not_installed_is_refused(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Unavailable(reason="it is not installed", do="pip install it", installable=True)
    here = made.surroundings()
    here = type(here)(here.cores, here.processor, lambda _: gone)
    monkeypatch.setattr(engine, "here", lambda *_: here)
    with pytest.raises(InputError, match="it is not installed") as caught:
        make_plan(recipe(), session)
    assert caught.value.do == "pip install it"


def test_one_that_the_hardware_lacks_is_skipped(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "here", lambda *_: made.surroundings("onnxruntime-cpu"))
    plan = make_plan(recipe(), session)
    assert [c.unavailable is not None for c in plan.candidates] == [True, True]
    assert "benchmark" not in {step.call.label for step in plan.steps}


def test_what_steps_need(session: Session) -> None:
    plan = make_plan(recipe(), session)
    told = {step.call.label: needs(recipe(), step.call) for step in plan.steps}
    assert told["check"] == "1 CPU"
    assert "1 CPU each" in told["train"]
    assert told["benchmark"] == "all cores, alone"


def test_memory_is_as_the_check_found_it(session: Session) -> None:
    plan = make_plan(recipe(), session)
    assert plan_memory(recipe(), plan, session, estimate_now=False) is None
    plan = keep(session, recipe(), {"check"})
    memory = plan_memory(recipe(), plan, session, estimate_now=False)
    assert memory is not None
    assert memory.total == 400 + 400 + 800 + 50
    assert memory.needed == memory.total * memory.workers
    assert memory.parameters == CHECKED.parameters
    assert memory.fits
