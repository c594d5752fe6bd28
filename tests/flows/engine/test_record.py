"""What is told to MLflow of a run: everything that was measured, and nothing that was decided there."""

from __future__ import annotations

import json
from pathlib import Path

import made_runs as made
import pytest
from made_runs import (
    FP32,
    INT8,
    MEASURED,
    NotingTracker,
    OverAtOnce,
    benchmarked,
    recipe,
    results,
    usual,
)
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.flows.engine.record import (
    promotable,
    promoted,
    record_outcome,
    record_results,
    record_start,
)
from prefect_hone.flows.engine.run import Run
from prefect_hone.recipe.errors import HoneError, ServerUnreachable
from prefect_hone.tasks.outcome import Outcome
from prefect_hone.tasks.tracking.entries import RunEntry, RunStatus
from prefect_hone.tasks.tracking.names import PARENT, TRAINING
from prefect_hone.tasks.tracking.registry import Promotion

PROMOTION = Promotion(model="wine", version="3", alias="champion", new=True, previous="2")


def recorded(run: Run, steps: OverAtOnce, facts=None) -> Outcome:
    record_start(run)
    of_steps = results(run.recipe, steps, facts)
    outcome = conclude(run.recipe, run.run_id, of_steps)
    record_results(run, of_steps, outcome)
    return outcome


def told(run: Run) -> NotingTracker:
    assert isinstance(run.tracker, NotingTracker)
    return run.tracker


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made.run(tmp_path)


def test_every_candidate_has_a_run_before_anything_is_computed(run: Run) -> None:
    record_start(run)
    runs = [e for e in told(run).entries if isinstance(e, RunEntry)]
    assert [e.ref for e in runs] == [TRAINING, FP32, INT8]
    assert {e.tags["hone.recipe_digest"] for e in runs} == {run.recipe.digest()}
    assert runs[2].tags["hone.variant"] == "int8"
    assert told(run).told_params(FP32)["passes"] == "none"
    assert "recipe.yaml" in told(run).told_texts(PARENT)
    assert told(run).told_params(TRAINING)["train/optimizer/name"] == "adamw"


def test_a_measured_candidate_becomes_a_model_with_its_verdict(run: Run) -> None:
    recorded(run, usual(fp32=0.0, int8=0.5), benchmarked(MEASURED))
    models = told(run).told_models()
    assert set(models) == {FP32, INT8}, "one that fails a gate was measured, and is a model too"
    model = models[INT8]
    assert model.tags == {"hone.sha256": model.sha256, "hone.candidate": INT8}
    assert model.inputs["input"].shape == (13,)
    tags = told(run).told_tags(INT8)
    assert (tags["hone.status"], tags["hone.gate.quality.drop"]) == ("gated", "failed")
    (gate,) = json.loads(told(run).told_texts(INT8)["verdict.json"])
    assert gate["passed"] is False
    assert told(run).told_ends() == {FP32: "FINISHED", INT8: "FINISHED"}
    linked = [e for e in told(run).entries if getattr(e, "model", None) == INT8]
    assert {"quality/drop", "latency/p50_ms"} <= {e.name for e in linked}


def test_a_failed_candidate_is_a_failed_run_without_a_model(run: Run) -> None:
    steps = usual(fp32=0.0)
    steps.failing["compress int8"] = "there is nothing to quantize"
    recorded(run, steps, benchmarked({"baseline": 4.0, FP32: 2.0}))
    assert set(told(run).told_models()) == {FP32}
    assert told(run).told_ends()[INT8] == "FAILED"
    assert told(run).told_tags(INT8)["hone.error"] == "there is nothing to quantize"
    assert told(run).told_metrics(INT8) == {}


def test_a_pass_tells_each_candidate_that_shares_it(run: Run) -> None:
    steps = usual(fp32=0.0, int8=0.0)
    steps.metrics["compress int8"] = {"compress/bytes": 5.0}
    recorded(run, steps, benchmarked(MEASURED))
    assert told(run).told_metrics(INT8)["compress/bytes"] == 5.0
    assert "compress/bytes" not in told(run).told_metrics(FP32)


def test_kept_weights_are_not_logged_twice(run: Run, tmp_path: Path) -> None:
    recorded(run, usual(fp32=0.0, int8=0.0), benchmarked(MEASURED))
    assert "weights" in told(run).told_folders(TRAINING)
    again = made.run(tmp_path)
    steps = usual(fp32=0.0, int8=0.0)
    steps.cached = {"train"}
    recorded(again, steps, benchmarked(MEASURED))
    assert told(again).told_folders(TRAINING) == {}
    assert told(again).told_tags(TRAINING)["hone.sha256"]


def test_the_data_are_inputs_of_training_and_of_the_whole_run(run: Run) -> None:
    recorded(run, usual(fp32=0.0, int8=0.0), benchmarked(MEASURED))
    data = told(run).told_data()
    assert [(e.ref, e.contexts) for e in data] == [
        (TRAINING, ("training",)), (PARENT, ("evaluation",)),
    ], "MLflow keeps one context of a data set in a run"  # fmt: skip
    assert {e.name for e in data} == {"wine-data"}


def test_what_is_promotable_is_the_winners_measured_bytes(run: Run) -> None:
    outcome = recorded(run, usual(fp32=0.0, int8=0.0), benchmarked(MEASURED))
    asked = promotable(run, outcome)
    assert asked is not None
    assert outcome.winning is not None
    assert outcome.winning.artifact is not None
    assert asked.sha256 == outcome.winning.artifact.sha256
    assert (asked.model, asked.alias, asked.model_id) == (
        "wine",
        "champion",
        "m-int8-onnxruntime-cpu",
    )
    assert asked.all_tags["hone.sha256"] == asked.sha256
    assert asked.all_tags["hone.parent_run"] == "r1"
    assert asked.all_tags["hone.source_commit"] == "abc"
    assert json.loads(asked.all_tags["hone.verdict"])[0]["passed"] is True
    assert asked.why == outcome.why, "the ledger says why"
    assert "Variant `int8`" in asked.description
    assert "models:/wine@champion" in asked.model_description


def test_nothing_is_promotable_without_a_winner_or_without_its_model(tmp_path: Path) -> None:
    run = made.run(tmp_path)
    assert promotable(run, recorded(run, usual(fp32=0.5, int8=0.5), benchmarked(MEASURED))) is None
    run = made.run(tmp_path)
    outcome = recorded(run, usual(fp32=0.0, int8=0.0), benchmarked(MEASURED))
    told(run).models.clear()
    told(run).problems.append("MLflow refused model")
    with pytest.raises(HoneError, match="did not take the model") as caught:
        promotable(run, outcome)
    assert "MLflow refused model" in str(caught.value)
    away = made.run(tmp_path, tracker=NotingTracker(answers=False))
    outcome = recorded(away, usual(fp32=0.0, int8=0.0), benchmarked(MEASURED))
    with pytest.raises(ServerUnreachable, match="measured but not registered"):
        promotable(away, outcome)


def test_a_run_with_a_champion_is_finished_and_says_which(run: Run) -> None:
    outcome = recorded(run, usual(fp32=0.0, int8=0.0), benchmarked(MEASURED))
    outcome = promoted(outcome, PROMOTION)
    assert outcome.champion is not None
    assert (outcome.champion.candidate, outcome.champion.version) == (INT8, "3")
    record_outcome(run, outcome)
    assert run.status is RunStatus.FINISHED
    tags = told(run).told_tags(PARENT)
    assert (tags["hone.champion"], tags["hone.champion_version"]) == (INT8, "3")
    metrics = told(run).told_metrics(PARENT)
    assert metrics["champion/latency/p50_ms"] == 1.0
    assert metrics["baseline/latency/p50_ms"] == 4.0
    assert json.loads(told(run).told_texts(PARENT)["outcome.json"]) == outcome.to_json()
    assert tags["mlflow.note.content"].startswith(f"**Champion: {INT8}**, accuracy 0.95")
    assert list(metrics)[:3] == [
        "champion/quality/accuracy",
        "champion/quality/drop",
        "champion/latency/p50_ms",
    ], "a page lists metrics in the order in which they came"
    assert not any("_batch_" in name for name in metrics), "they are in the candidate's own run"


def test_a_run_without_a_champion_is_failed_and_says_why(run: Run) -> None:
    outcome = recorded(run, usual(fp32=0.5, int8=0.5), benchmarked(MEASURED))
    record_outcome(run, outcome)
    assert run.status is RunStatus.FAILED
    tags = told(run).told_tags(PARENT)
    assert "hone.champion" not in tags
    assert "no candidate passed" in tags["hone.why"]
    assert not any(name.startswith("champion/") for name in told(run).told_metrics(PARENT))


def test_a_target_with_an_environment_of_its_own_asks_for_its_versions(tmp_path: Path) -> None:
    run = made.run(tmp_path, recipe(variants=[{"name": "fp32"}], targets=["litert"]))
    steps = OverAtOnce(metrics={"validate fp32@litert": {"quality/drop": 0.0}})
    recorded(run, steps, benchmarked({"baseline": 4.0, "fp32@litert": 2.0}))
    requirements = told(run).told_models()["fp32@litert"].requirements
    assert any(r.startswith("ai-edge-litert==") for r in requirements)
