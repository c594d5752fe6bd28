"""The best few measured again: who they are, what it changes, and that a plan knows them."""

from __future__ import annotations

import dataclasses
from typing import Any

import made_runs as made
import pytest
from made_runs import FP32, INT8, OverAtOnce, benchmarked, recipe, results, usual
from prefect_hone.flows.engine.conclude import conclude, measured_next
from prefect_hone.flows.engine.lay_out_measurements import MEASURED_AGAIN, lay_out_benchmark
from prefect_hone.flows.engine.results import Results, StepResult
from prefect_hone.ray_workers.dispatch import Done
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.keys import UserCode, cache_key
from prefect_hone.tasks.outcome import Candidate, CandidateStatus, Outcome
from prefect_hone.tasks.report.card import model_card
from prefect_hone.tasks.report.measured_again import again_rows, in_words
from prefect_hone.tasks.report.scenarios import scenario_rows, told_scenarios
from prefect_hone.tasks.report.table import headers
from prefect_hone.tasks.report.why import why
from prefect_hone.tasks.specs.benchmark import BASELINE, BenchmarkFacts, ScenarioResult
from prefect_hone.tasks.steps import BENCHMARK

NEAR = {BASELINE: 4.0, FP32: 1.02, INT8: 1.0}


def again(p50: dict[str, float], failed: dict[str, str] | None = None) -> StepResult:
    facts: BenchmarkFacts = benchmarked(p50, failed)
    done = Done(outputs={}, metrics={}, params={}, facts=facts.model_dump(mode="json"), notes=[],
                seconds=4.0)  # fmt: skip
    return StepResult(step=BENCHMARK, label=MEASURED_AGAIN, key="k2", cached=False, done=done)


def found(p50: dict[str, float] = NEAR, **changed: object) -> tuple[Results, object]:
    asked = recipe(**changed)
    return results(asked, usual(fp32=0.0, int8=0.01), benchmarked(p50)), asked


def concluded(second: StepResult, p50: dict[str, float] = NEAR, **changed: object) -> Outcome:
    first, asked = found(p50, **changed)
    return conclude(asked, "r1", dataclasses.replace(first, confirmed=second))  # type: ignore[arg-type]


def of(outcome: Outcome, name: str) -> Candidate:
    return next(c for c in outcome.candidates if c.name == name)


def test_those_that_are_near_are_next() -> None:
    first, asked = found()
    assert measured_next(asked, first) == (INT8, FP32)  # type: ignore[arg-type]
    first, asked = found({BASELINE: 4.0, FP32: 2.0, INT8: 1.0})
    assert measured_next(asked, first) == ()  # type: ignore[arg-type]


def test_what_candidates_are_compared_with_is_timed_with_them() -> None:
    three = [{"name": "fp32"}, *made.RECIPE["variants"][1:], {"name": "slim", "passes": [  # type: ignore[index]
        {"kind": "prune", "method": "channel", "ratio": 0.5}]}]  # fmt: skip
    asked = recipe(
        variants=three, gates=[{"metric": "latency.ratio_to_uncompressed", "at_least": 0.1}]
    )
    steps = usual(fp32=0.0, int8=0.01, slim=0.01)
    timed = benchmarked({BASELINE: 4.0, FP32: 2.0, INT8: 1.0, "slim@onnxruntime-cpu": 1.01})
    names = measured_next(asked, results(asked, steps, timed))
    assert names == (INT8, "slim@onnxruntime-cpu", FP32)


def test_the_second_measurement_decides_and_both_are_told() -> None:
    outcome = concluded(again({INT8: 1.1, FP32: 1.0}))
    assert outcome.winner == FP32
    assert (
        outcome.confirmed
        == (
            "measured again in fresh processes, latency.p50_ms: "
            f"{FP32} 1 (before 1.02), {INT8} 1.1 (before 1)"
        )
        + f"; the two measurements contradict each other about {FP32} and {INT8}"
    )
    lost = of(outcome, INT8)
    assert lost.metrics["latency/p50_ms"] == 1.0, "the table is of one session"
    assert lost.again is not None
    assert lost.again.p50_ms == 1.1
    assert lost.against_winner is not None
    assert lost.against_winner.ratio == pytest.approx(1.1)
    assert lost.again.against_winner_before is not None
    assert lost.again.against_winner_before.ratio == pytest.approx(1 / 1.02)
    assert "measured again in fresh processes (0.98 times" in why(outcome, lost)
    assert [row.name for row in again_rows(outcome)] == [FP32, INT8]


def test_a_gate_on_time_is_judged_again() -> None:
    gates = [{"metric": "latency.p50_ms", "at_most": 1.05}]
    outcome = concluded(again({INT8: 1.2, FP32: 1.0}), gates=gates)
    assert of(outcome, INT8).status is CandidateStatus.GATED
    (gate,) = of(outcome, INT8).failed_gates
    assert gate.said == "measured again in fresh processes, 1 before"
    assert outcome.winner == FP32
    assert "no other one passed every gate when it was measured again" in outcome.why
    neither = concluded(again({INT8: 1.2, FP32: 1.3}), gates=gates)
    assert neither.winner is None
    assert neither.why == "no candidate passed every gate when it was measured again"


def test_one_that_fails_while_it_is_measured_again_does_not_win() -> None:
    outcome = concluded(again({FP32: 1.0}, failed={INT8: "it crashed"}))
    assert of(outcome, INT8).status is CandidateStatus.FAILED
    assert of(outcome, INT8).error == "benchmark again: it crashed"
    assert outcome.winner == FP32


def test_without_it_the_verdict_says_so() -> None:
    first, asked = found(benchmark={"batch_sizes": [1, 8], "confirm": False})
    assert measured_next(asked, first) == ()  # type: ignore[arg-type]
    outcome = conclude(asked, "r1", first)  # type: ignore[arg-type]
    assert outcome.confirmed == ""
    assert "were not measured again" in in_words(outcome, asked)  # type: ignore[arg-type]


def test_it_is_a_measurement_of_its_own_of_what_gates_look_at() -> None:
    asked, steps = recipe(), OverAtOnce()
    calls = {}

    def note(call, inputs, after=()):  # type: ignore[no-untyped-def]
        calls[call.label] = (call, set(inputs), list(after))
        return steps(call, inputs, after)

    layout = results(asked, usual(fp32=0.0, int8=0.0)).layout
    first = lay_out_benchmark(asked, made.surroundings(), note, layout.shared, layout.candidates)
    lay_out_benchmark(
        asked, made.surroundings(), note, layout.shared, layout.candidates, None, first
    )
    call, inputs, after = calls[MEASURED_AGAIN]
    assert inputs == {"weights", "samples", FP32, INT8}
    assert after[-1] is first
    assert call.spec.batch_sizes == (1,), "no gate looks at 8"
    assert call.spec.baseline is None, "no gate compares with eager"
    keys = {cache_key(calls[label][0], {}, UserCode()) for label in ("benchmark", MEASURED_AGAIN)}
    assert len(keys) == 2
    eager = recipe(gates=[{"metric": "latency.ratio", "at_least": 2, "batch_size": 8}])
    lay_out_benchmark(
        eager, made.surroundings(), note, layout.shared, layout.candidates, None, first
    )
    assert calls[MEASURED_AGAIN][0].spec.baseline is not None
    assert calls[MEASURED_AGAIN][0].spec.batch_sizes == (1, 8)


def test_the_card_has_both_latencies() -> None:
    from made_reports import made_report

    outcome = concluded(again({INT8: 0.9, FP32: 1.0}))
    card = model_card(made_report().model_copy(update={"outcome": outcome}))
    assert "| latency p50 (ms), measured again | 0.900 [0.810, 0.990] | |" in card


def reaching(rates: dict[str, float | None], problem: str = "") -> dict[str, Any]:
    """What candidates reached as servers."""
    return {
        name: {
            "server": ScenarioResult(
                rate=rate, rate_low=rate and 0.9 * rate, rate_high=rate and 1.1 * rate, p99_ms=4.0,
                rounds=[[1 / rate]] * 4 if rate else [], problem=None if rate else problem,
            )
        }
        for name, rate in rates.items()
    }  # fmt: skip


SERVED = {
    "benchmark": {"batch_sizes": [1, 8], "scenarios": [{"kind": "server", "p99_ms": 5}]},
    "select": {"maximize": "server.queries_per_s"},
}


def test_select_by_a_scenario() -> None:
    facts = benchmarked(NEAR).model_copy(update={"scenarios": reaching({INT8: 900.0, FP32: 910.0})})
    asked = recipe(**SERVED)
    first = results(asked, usual(fp32=0.0, int8=0.01), facts)
    assert set(measured_next(asked, first)) == {FP32, INT8}
    outcome = conclude(asked, "r1", first)
    assert outcome.winner == FP32
    assert of(outcome, INT8).metrics["server/queries_per_s"] == 900.0
    assert of(outcome, INT8).metrics["server/queries_per_s_low"] == pytest.approx(810.0)
    assert "server/s" in headers(outcome)
    assert "offline/s" not in headers(outcome)
    second = again({INT8: 1.0, FP32: 1.0})
    done = second.done.model_copy(
        update={
            "facts": benchmarked({INT8: 1.0, FP32: 1.0})
            .model_copy(update={"scenarios": reaching({INT8: 905.0, FP32: 800.0})})
            .model_dump(mode="json")
        }
    )
    confirmed = dataclasses.replace(first, confirmed=second.model_copy(update={"done": done}))
    outcome = conclude(asked, "r1", confirmed)
    assert "contradict each other" in outcome.why
    assert "server.queries_per_s" in outcome.confirmed


def test_a_rate_that_no_candidate_can_serve_is_a_sentence() -> None:
    reached = reaching({INT8: None, FP32: None}, "no rate holds a p99 of 5 ms")
    facts = benchmarked(NEAR).model_copy(update={"scenarios": reached})
    asked = recipe(**SERVED)
    outcome = conclude(asked, "r1", results(asked, usual(fp32=0.0, int8=0.01), facts))
    assert outcome.winner is None
    assert outcome.why.startswith("no candidate has a value of server.queries_per_s (int8@")
    assert "no rate holds a p99 of 5 ms" in outcome.why
    gated = recipe(
        benchmark=SERVED["benchmark"], gates=[{"metric": "server.queries_per_s", "at_least": 1}]
    )
    outcome = conclude(gated, "r1", results(gated, usual(fp32=0.0, int8=0.01), facts))
    (gate,) = of(outcome, INT8).failed_gates
    assert gate.said == "no rate holds a p99 of 5 ms"


def test_more_processes_than_cores_are_refused_before_anything_runs() -> None:
    scenarios = [{"kind": "offline", "instances": 3}]
    asked = recipe(benchmark={"batch_sizes": [1, 8], "scenarios": scenarios})
    layout = results(asked, usual(fp32=0.0, int8=0.0)).layout
    with pytest.raises(
        InputError, match="3 processes with 1 thread each don't fit on 2 cores"
    ) as e:
        lay_out_benchmark(
            asked, made.surroundings(), OverAtOnce(), layout.shared, layout.candidates
        )
    assert e.value.where == "benchmark.scenarios.0.instances"
    assert e.value.do == "give at most 2"


def test_the_report_has_a_row_for_each_scenario() -> None:
    reached = reaching({INT8: 900.0, FP32: None}, "too few calls")
    facts = benchmarked(NEAR).model_copy(update={"scenarios": reached})
    asked = recipe(**{**SERVED, "select": {"minimize": "latency.p50_ms"}})
    outcome = conclude(asked, "r1", results(asked, usual(fp32=0.0, int8=0.01), facts))
    rows = [(row.name, [cell.text for cell in row.cells[:3]])
            for row in scenario_rows(outcome, reached)]  # fmt: skip
    assert rows == [
        (INT8, ["server", "900 [810, 990]", "4"]),
        (FP32, ["server", "too few calls", "4"]),
    ]
    assert told_scenarios(asked)[0].startswith("Server: queries of one sample arrive at random")
