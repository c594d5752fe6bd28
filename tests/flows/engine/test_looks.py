"""What is looked at besides quality and speed: into gates and verdicts, or told as not looked at."""

from __future__ import annotations

from typing import Any

import pytest
from made_runs import FP32, INT8, MEASURED, OverAtOnce, benchmarked, recipe, results, usual
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.flows.engine.lay_out_looks import shows_samples
from prefect_hone.tasks.outcome import Outcome
from prefect_hone.tasks.report.table import caption
from prefect_hone.tasks.report.why import why

GATES = [
    {"metric": "robustness.worst_drop", "at_most": 0.02},
    {"metric": "explanation.agreement", "at_least": 0.9},
]


def looked(steps: OverAtOnce | None = None, **changed: Any) -> Outcome:
    asked = recipe(**changed)
    return conclude(
        asked, "r1", results(asked, steps or usual(fp32=0, int8=0), benchmarked(MEASURED))
    )


def test_a_gate_judges_what_was_looked_at() -> None:
    steps = usual(fp32=0, int8=0)
    for name, drop, agreement in ((FP32, 0.0, 1.0), (INT8, 0.05, 0.8)):
        steps.metrics[f"robustness {name}"] = {"robustness/worst_drop": drop}
        steps.metrics[f"explanation {name}"] = {"explanation/agreement": agreement}
    outcome = looked(steps, gates=GATES)
    assert outcome.winner == FP32
    failed = next(c for c in outcome.candidates if c.name == INT8).failed_gates
    assert [gate.metric for gate in failed] == ["robustness.worst_drop", "explanation.agreement"]


def test_what_could_not_be_looked_at_fails_its_gate_and_nothing_else() -> None:
    steps = usual(fp32=0, int8=0)
    steps.failing[f"robustness {INT8}"] = "its output has NaN under noise of strength 3"
    assert looked(steps).winner == INT8, "no gate asks for it"
    outcome = looked(steps, gates=[*GATES[:1], {"metric": "quality.drop", "at_most": 1}])
    lost = next(c for c in outcome.candidates if c.name == INT8)
    assert [gate.value for gate in lost.failed_gates] == [None]
    assert "not looked at: its output has NaN under noise of strength 3" in lost.notes


def test_what_is_off_is_no_step_and_is_told() -> None:
    off = {"robustness": False, "explanation": False, "layer_parity": False}
    asked = recipe(proofs=off)
    steps = usual(fp32=0, int8=0)
    outcome = conclude(asked, "r1", results(asked, steps, benchmarked(MEASURED)))
    taken = {step.step.name for step in steps.done}
    assert not taken & {"corrupted", "robustness", "explained", "explanation", "layer-parity"}
    for told in (caption(asked, outcome), why(outcome, outcome.candidates[0])):
        assert "Not looked at: quality under corrupted inputs (proofs.robustness is off)" in told
        assert "parity layer by layer (proofs.layer_parity is off)" in told


def test_inputs_that_fit_nothing_are_told_once_with_the_reason() -> None:
    steps = usual(fp32=0, int8=0)
    for name in (FP32, INT8):
        steps.facts[f"robustness {name}"] = {"not_looked_at": "no input is of a kind"}
    assert looked(steps).not_looked_at[0] == (
        "quality under corrupted inputs (no input is of a kind)"
    )


@pytest.mark.parametrize(("proof", "shown"), [("inputs", True), ("synthetic", False)])
def test_samples_are_not_shown_where_no_data_may_leave(proof: str, shown: bool) -> None:
    asked = recipe(registry={"model": "wine", "proof": proof})
    assert shows_samples(asked) == shown
    assert not shows_samples(recipe(proofs={"show_samples": False}))
