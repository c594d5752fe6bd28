"""The champion measured again: only measurements, only of its own bytes, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import made_runs as made
import pytest
from made_runs import INT8, MEASURED, benchmarked, recipe, results, usual
from prefect_hone.flows.engine import measuring_again as again
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.flows.engine.layout import Layout
from prefect_hone.flows.engine.plan import Plan, PlannedStep
from prefect_hone.ray_workers.dispatch import Done
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.outcome import Outcome
from prefect_hone.tasks.tracking.champions import RegisteredVersion

MADE = made.artifact(f"compile {INT8}/model")


def version(**changed: object) -> RegisteredVersion:
    fields = {
        "model": "wine", "version": "3", "candidate": INT8, "sha256": MADE.sha256,
        "recipe_digest": recipe().digest(), "parent_run": "r0", "metrics": {},
    }  # fmt: skip
    return RegisteredVersion.model_validate({**fields, **changed})


def planned(asked: Recipe, missing: str = "") -> Plan:
    """A plan of which all steps are kept but one."""
    steps: list[PlannedStep] = []

    def look_up(call, inputs, after=()):
        done = Done(
            outputs={n: made.artifact(f"{call.label}/{n}") for n in call.step.outputs},
            metrics={}, params={}, facts={}, notes=[], seconds=1.0,
        )  # fmt: skip
        steps.append(PlannedStep(call, None if call.label == missing else done))
        return steps[-1]

    from prefect_hone.flows.engine.lay_out import lay_out
    from prefect_hone.flows.engine.lay_out_measurements import lay_out_benchmark

    layout: Layout[PlannedStep] = lay_out(asked, made.surroundings(), look_up)
    lay_out_benchmark(asked, made.surroundings(), look_up, layout.shared, list(layout.candidates))
    return Plan(asked, steps, layout)


@pytest.fixture
def plan_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def make(asked: Recipe, missing: str = "", **changed: object) -> Plan:
        monkeypatch.setattr(again, "make_plan", lambda *_: planned(asked, missing))
        return again._plan(asked, made.session(tmp_path), version(**changed))

    return make


def test_only_its_candidate_and_only_measurements(plan_of) -> None:
    only = again._only(recipe(), version())
    assert ([v.name for v in only.variants], only.promotion) == (["int8"], "off")
    plan = plan_of(only)
    assert plan.again == {"reference", f"validate {INT8}", "benchmark"}


def test_nothing_is_made_again_for_it(plan_of) -> None:
    only = again._only(recipe(), version())
    for missing in ("train", f"compile {INT8}", "compress int8"):
        with pytest.raises(InputError, match=f"'{missing}' is not in this worker's store"):
            plan_of(only, missing)
    plan_of(only, "benchmark")


def test_other_bytes_and_other_recipes_are_refused(plan_of) -> None:
    only = again._only(recipe(), version())
    with pytest.raises(InputError, match="makes other bytes now than those of version 3"):
        plan_of(only, sha256="0" * 64)
    with pytest.raises(InputError, match="has no candidate half@onnxruntime-cpu"):
        again._only(recipe(), version(candidate="half@onnxruntime-cpu"))


def measured(drop: float = 0.0) -> Outcome:
    only = again._only(recipe(), version())
    return conclude(
        only, "r1", results(only, usual(int8=drop), benchmarked({INT8: MEASURED[INT8]}))
    )


def test_as_it_was_changed_or_failing() -> None:
    asked = recipe()
    now = measured()
    then = dict(now.candidates[0].metrics)
    same = again._compare(asked, version(metrics=then), now)
    assert not any(row.apart for row in same.compared)
    state = again._state(same)
    assert (state.name, "is as it was" in str(state.message)) == ("Completed", True)

    name = "latency/p50_ms"
    faster = {**then, **{f"{name}{b}": then[f"{name}{b}"] / 3 for b in ("", "_low", "_high")}}
    changed = again._state(again._compare(asked, version(metrics=faster), now))
    assert changed.name == "ChampionChanged"
    assert f"{name} {then[name]:.4g} (was {faster[name]:.4g})" in str(changed.message)

    failing = again._state(again._compare(asked, version(metrics=then), measured(drop=0.5)))
    assert failing.name == "ChampionFails"
    assert "fails now: quality.drop 0.5 > 0.02" in str(failing.message)
