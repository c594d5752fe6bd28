"""Redo: the steps that are computed again, all that follows from them, and nothing before them."""

from __future__ import annotations

from pathlib import Path

import made_runs as made
import pytest
from made_runs import recipe
from prefect_hone.flows.engine.lay_out import lay_out
from prefect_hone.flows.engine.lay_out_measurements import lay_out_benchmark
from prefect_hone.flows.engine.plan import PlannedStep
from prefect_hone.flows.engine.redo import asked_again
from prefect_hone.flows.engine.runner import Runner
from prefect_hone.ray_workers.dispatch import Done
from prefect_hone.tasks.steps import Call


def planned(*redo: str) -> set[str]:
    """Labels of the steps that are computed again in a run that was computed before."""
    steps: list[PlannedStep] = []

    def look_up(call, inputs, after=()):
        sources = [*(source for source, _ in inputs.values()), *after]
        again = asked_again(call, redo) or any(s.again for s in sources)
        steps.append(PlannedStep(call, None, again))
        return steps[-1]

    layout = lay_out(recipe(), made.surroundings(), look_up)
    lay_out_benchmark(
        recipe(), made.surroundings(), look_up, layout.shared, list(layout.candidates)
    )
    return {step.call.label for step in steps if step.again}


EVERYTHING = planned("check")
#: Steps of a candidate after its validation.
LOOKS = {f"robustness {made.INT8}", f"explanation {made.INT8}"}


@pytest.mark.parametrize(
    ("redo", "again"),
    [
        ([], set()),
        (["benchmark"], {"benchmark"}),
        (
            ["compile:int8@onnxruntime-cpu"],
            {f"compile {made.INT8}", f"validate {made.INT8}", *LOOKS, "benchmark"},
        ),
        (
            ["compress:int8"],
            {"compress int8", "layer-parity int8", "benchmark", *LOOKS}
            | {f"compile {made.INT8}", f"validate {made.INT8}"},
        ),
        (
            ["validate:int8@onnxruntime-cpu"],
            {"benchmark", f"validate {made.INT8}", *LOOKS},
        ),
        (["robustness"], {f"robustness {c}" for c in (made.FP32, made.INT8)}),
        (["train"], EVERYTHING - {"check"}),
    ],
)
def test_a_step_and_what_follows(redo: list[str], again: set[str]) -> None:
    assert planned(*redo) == again


def test_all_follows_from_the_check() -> None:
    assert {"check", "train", "reference", "export", "benchmark"} < EVERYTHING


def test_the_runner_computes_it_whatever_the_store_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = lay_out(recipe(), made.surroundings(), made.OverAtOnce()).shared.check.call
    kept = Done.model_construct(outputs={}, notes=(), params={}, metrics={}, seconds=1.0)
    computed = []

    def compute(_self: Runner, call: Call, *_: object) -> Done:
        computed.append(call.label)
        return kept

    monkeypatch.setattr(Runner, "_compute", compute)
    monkeypatch.setattr(Runner, "_tell", lambda *_, **__: None)
    monkeypatch.setattr("prefect_hone.flows.engine.runner.find_record", lambda *_: kept)
    session, told = made.session(tmp_path), made.NotingTracker()
    assert Runner(session, told, None).run(call, {}).cached
    assert computed == []
    assert not Runner(session, told, None, frozenset({call.label})).run(call, {}).cached
    assert computed == [call.label]
