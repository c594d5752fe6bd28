"""What a run concludes: verdicts, the winner and why, from results of steps and from nothing else."""

from __future__ import annotations

import made_runs as made
import pytest
from made_runs import FP32, INT8, MEASURED, OverAtOnce, benchmarked, recipe, results, usual
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.tasks.outcome import Candidate, CandidateStatus, Outcome
from prefect_hone.tasks.specs.benchmark import BASELINE
from prefect_hone.tasks.todays_champion import TodaysChampion


def concluded(
    steps: OverAtOnce, facts=None, here=None, champion=None, drops=None, **changed: object
) -> Outcome:
    asked = recipe(**changed)
    return conclude(asked, "r1", results(asked, steps, facts, here, champion, drops))


def of(outcome: Outcome, name: str) -> Candidate:
    return next(c for c in outcome.candidates if c.name == name)


def test_the_fastest_that_passes_wins_and_nothing_is_promoted_yet() -> None:
    outcome = concluded(usual(fp32=0.0, int8=0.01), benchmarked(MEASURED))
    assert [c.status for c in outcome.candidates] == [CandidateStatus.PASSED] * 2
    assert outcome.winner == INT8
    assert outcome.champion is None
    assert "lowest latency.p50_ms" in outcome.why
    assert of(outcome, INT8).artifact is not None
    assert outcome.run_id == "r1"


def test_a_faster_one_that_fails_a_gate_does_not() -> None:
    outcome = concluded(usual(fp32=0.0, int8=0.5), benchmarked(MEASURED))
    assert of(outcome, INT8).status is CandidateStatus.GATED
    assert [gate.passed for gate in of(outcome, INT8).gates] == [False]
    assert outcome.winner == FP32


@pytest.mark.parametrize("missing", ["quality.worst_group", "throughput.samples_per_s"])
def test_a_missing_number_never_passes_its_gate(missing: str) -> None:
    gates = [{"metric": missing, "at_least": -1e9}, {"metric": missing, "at_most": 1e9}]
    facts = benchmarked(MEASURED)
    if missing.startswith("throughput"):
        gates = [{**gate, "batch_size": 8} for gate in gates]
        facts = facts.model_copy(
            update={"measured": {n: {"1": t["1"]} for n, t in facts.measured.items()}}
        )
    steps = usual(fp32=0.0, int8=0.0)
    asked = recipe(gates=gates, quality={"metric": "accuracy", "groups": "label"})
    if missing.startswith("throughput"):
        asked = asked.model_copy(
            update={"benchmark": asked.benchmark.model_copy(update={"batch_sizes": (1,)})}
        )
    outcome = conclude(asked, "r1", results(asked, steps, facts))
    assert outcome.winner is None
    for candidate in outcome.candidates:
        assert candidate.status is CandidateStatus.GATED
        assert [(gate.value, gate.passed) for gate in candidate.gates] == [(None, False)] * 2
    assert "no candidate passed every gate" in outcome.why


def test_a_pass_that_changed_nothing_makes_no_candidate_and_no_failure() -> None:
    steps = usual(fp32=0.0)
    steps.failing["compress int8"] = "nothing was quantized: first (it is in skip_layers)"
    steps.unchanged.add("compress int8")
    outcome = concluded(steps, benchmarked({BASELINE: 4.0, FP32: 2.0}))
    left = of(outcome, INT8)
    assert left.status is CandidateStatus.UNCHANGED
    assert left.error == "nothing was quantized: first (it is in skip_layers)"
    assert outcome.winner == FP32


def test_coverage_is_that_of_the_pass_that_changed_least() -> None:
    steps = usual()
    done, left = ({"layer": "a", "operator": "Gemm", "weights": n, "left_because": why}
                  for n, why in ((75, None), (25, "it is in skip_layers")))  # fmt: skip
    steps.facts["compress int8"] = {"coverage": {"layers": [done, left]}}
    outcome = concluded(steps, benchmarked({BASELINE: 4.0, FP32: 2.0, INT8: 1.0}))
    assert of(outcome, INT8).metrics["coverage/fraction"] == 0.75
    assert of(outcome, FP32).metrics["coverage/fraction"] == 1, "it has no pass"


def test_a_step_that_failed_is_said_of_its_candidate_alone() -> None:
    steps = usual(fp32=0.0)
    steps.failing["compress int8"] = "there is nothing to quantize"
    outcome = concluded(steps, benchmarked({BASELINE: 4.0, FP32: 2.0}))
    broken = of(outcome, INT8)
    assert (broken.status, broken.error) == (
        CandidateStatus.FAILED, "there is nothing to quantize",
    )  # fmt: skip
    assert broken.artifact is None
    assert broken.gates == ()
    assert outcome.winner == FP32
    assert "no other candidate passed" in outcome.why


def test_one_that_failed_while_it_was_timed_keeps_its_quality() -> None:
    facts = benchmarked({BASELINE: 4.0, FP32: 2.0}, failed={INT8: "it crashed"})
    outcome = concluded(usual(fp32=0.0, int8=0.01), facts)
    assert of(outcome, INT8).status is CandidateStatus.FAILED
    assert of(outcome, INT8).error == "benchmark: it crashed"
    assert of(outcome, INT8).metrics["quality/drop"] == 0.01
    assert of(outcome, INT8).artifact is not None


def test_a_target_that_does_not_run_here_is_skipped() -> None:
    outcome = concluded(usual(), here=made.surroundings(missing="onnxruntime-cpu"))
    assert {c.status for c in outcome.candidates} == {CandidateStatus.SKIPPED}
    assert {c.error for c in outcome.candidates} == {"there is no such hardware"}
    assert {c.notes for c in outcome.candidates} == {()}
    assert outcome.winner is None
    assert outcome.why == "no candidate could be measured"


def test_timings_have_mlflows_names_for_every_batch_size() -> None:
    metrics = of(concluded(usual(fp32=0.0, int8=0.0), benchmarked(MEASURED)), INT8).metrics
    assert metrics["latency/p50_ms"] == metrics["latency/p50_ms_batch_1"] == 1.0
    assert metrics["latency/p50_ms_batch_8"] == 8.0
    assert metrics["latency/p50_ms_low"] < 1.0 < metrics["latency/p50_ms_high"]
    assert metrics["latency/p50_ms_low_batch_8"] == pytest.approx(7.2)
    assert metrics["throughput/samples_per_s"] == 1000.0
    assert metrics["memory/peak_bytes"] == 50_000_000
    assert metrics["latency/ratio_to_uncompressed"] == pytest.approx(2.0)
    assert not any("p50_low" in name for name in metrics), "there is one rule for bounds"


def test_the_main_batch_size_is_that_of_select() -> None:
    select = {"minimize": "latency.p50_ms", "batch_size": 8}
    outcome = concluded(usual(fp32=0.0, int8=0.0), benchmarked(MEASURED), select=select)
    assert of(outcome, INT8).metrics["latency/p50_ms"] == 8.0


def test_the_baseline_is_the_trained_model_in_eager() -> None:
    outcome = concluded(usual(fp32=0.0, int8=0.0), benchmarked(MEASURED))
    assert outcome.baseline["quality/accuracy"] == 0.95
    assert outcome.baseline["latency/p50_ms"] == 4.0
    assert outcome.baseline["size/bytes"] == 1000.0
    assert "latency/ratio_to_uncompressed" not in outcome.baseline


def test_what_was_computed_and_what_was_kept() -> None:
    steps = usual(fp32=0.0, int8=0.0)
    steps.cached = {"check", "train"}
    outcome = concluded(steps, benchmarked(MEASURED))
    assert outcome.cached == ("check", "train")
    assert outcome.seconds["export"] == 1.5
    assert outcome.seconds["benchmark"] == 9.0
    assert not {"check", "train"} & set(outcome.seconds)
    assert outcome.notes == ("a note",)
    assert f"a note of compile {INT8}" in of(outcome, INT8).notes


CHAMPION = TodaysChampion(
    model="wine", alias="champion", version="3", candidate="old@onnxruntime-cpu", digest="d"
)
FASTER = [{"metric": "latency.ratio_to_champion", "at_least": 1.5},
          {"metric": "quality.drop_from_champion", "at_most": 0.02, "confidence": 0.95}]  # fmt: skip


def with_champion(p50: float | None = 2.0, **changed: object) -> Outcome:
    steps = usual(fp32=0.0, int8=0.0)
    steps.metrics["validate champion"] = {"quality/accuracy": 0.94, "size/bytes": 500.0}
    timed = MEASURED if p50 is None else {**MEASURED, "champion": p50}
    options = {"champion": CHAMPION, "drops": {FP32: -0.01, INT8: 0.005}, "gates": FASTER}
    return concluded(steps, benchmarked(timed), **{**options, **changed})


def test_todays_champion_is_measured_beside_the_candidates() -> None:
    outcome = with_champion()
    assert outcome.winner == INT8
    metrics = of(outcome, INT8).metrics
    assert metrics["latency/ratio_to_champion"] == pytest.approx(2.0)
    assert metrics["latency/ratio_to_champion_batch_8"] == pytest.approx(2.0)
    assert metrics["quality/drop_from_champion_high"] == pytest.approx(0.015)
    assert metrics["size/ratio_to_champion"] == pytest.approx(0.5)
    assert [g.passed for g in of(outcome, FP32).gates] == [False, True], "as fast as the champion"
    assert [g.champion for g in of(outcome, INT8).gates] == ["3", "3"]
    assert outcome.today is not None
    assert outcome.today.metrics["latency/p50_ms"] == 2.0
    assert outcome.today.metrics["quality/accuracy"] == 0.94


def test_a_champion_that_is_one_of_the_candidates_is_timed_once() -> None:
    same = CHAMPION.model_copy(update={"same_as": FP32})
    outcome = with_champion(None, champion=same)
    assert of(outcome, FP32).metrics["latency/ratio_to_champion"] == 1
    assert of(outcome, FP32).metrics["latency/ratio_to_champion_low"] == 1
    assert of(outcome, INT8).metrics["latency/ratio_to_champion"] == pytest.approx(2.0)


def test_without_a_champion_nothing_is_blocked() -> None:
    nobody = TodaysChampion(model="wine", alias="champion")
    outcome = with_champion(None, champion=nobody, drops=None)
    assert outcome.winner == INT8
    assert {g.said for g in of(outcome, INT8).gates} == {"no champion yet"}


def test_a_champion_that_does_not_open_here_fails_the_gates() -> None:
    steps = usual(fp32=0.0, int8=0.0)
    steps.failing["validate champion"] = "no such operator here"
    outcome = concluded(steps, benchmarked(MEASURED), champion=CHAMPION, gates=FASTER, drops=None)
    assert outcome.winner is None
    said = {gate.said for gate in of(outcome, INT8).gates}
    assert said == {"version 3, the champion, can't be compared with: no such operator here"}
    timed = benchmarked(MEASURED, failed={"champion": "it crashed"})
    crashed = concluded(
        usual(fp32=0.0, int8=0.0), timed, champion=CHAMPION, gates=FASTER[:1], drops={}
    )
    assert "it crashed" in str(of(crashed, INT8).gates[0].said)


def test_a_candidate_too_good_to_be_believed_asks_a_person() -> None:
    steps = usual(fp32=0.0, int8=-0.2)
    reference = {"quality/accuracy": 0.7, "quality/accuracy_low": 0.6}
    steps.metrics["reference"] = reference
    steps.metrics[f"validate {INT8}"] |= {"quality/drop_low": -0.25, "quality/drop_high": -0.1}
    outcome = concluded(steps, benchmarked(MEASURED))
    assert outcome.winner == INT8
    assert outcome.promotion == "approve", "auto asks, then"
    assert "it is suspicious: its accuracy is 0.2 better than the trained model's (0.7)" in str(
        of(outcome, INT8).suspicious
    )
    assert "before a person approves it" in outcome.why
    assert of(outcome, FP32).suspicious is None
    for mode in ("off", "dry-run"):
        assert concluded(steps, benchmarked(MEASURED), promotion=mode).promotion == mode
    steps.metrics[f"validate {INT8}"]["quality/drop_high"] = -0.03
    unsure = concluded(steps, benchmarked(MEASURED))
    assert (unsure.promotion, of(unsure, INT8).suspicious) == ("auto", None)


def test_each_is_compared_with_the_winner() -> None:
    outcome = concluded(usual(fp32=0.0, int8=0.0), benchmarked(MEASURED))
    compared = of(outcome, FP32).against_winner
    assert compared is not None
    assert compared.ratio == pytest.approx(2.0)
    assert of(outcome, INT8).against_winner is None


def test_whose_gates_they_were_and_the_only_candidate() -> None:
    only = {"variants": [{"name": "fp32"}], "gates": []}
    outcome = concluded(usual(fp32=0.0), benchmarked({BASELINE: 4.0, FP32: 2.0}), **only)
    assert outcome.gates_by == "default"
    assert outcome.why.endswith("; it is the only candidate")
    assert all(gate.default for gate in of(outcome, FP32).gates)
    free = concluded(usual(fp32=0.5, int8=0.5), benchmarked(MEASURED), gates="none")
    assert (free.gates_by, free.winner) == ("none", INT8)
