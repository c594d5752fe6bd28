"""Why a candidate won or lost, from the outcome alone."""

from __future__ import annotations

from made_runs import FP32, INT8, MEASURED, benchmarked, recipe, results, usual
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.tasks.decide import Compared
from prefect_hone.tasks.outcome import Outcome
from prefect_hone.tasks.report.table import departures, markdown
from prefect_hone.tasks.report.why import in_short, why
from prefect_hone.tasks.todays_champion import TodaysChampion


def concluded(steps=None, timed=None, **changed: object) -> Outcome:
    asked = recipe(**changed)
    facts = benchmarked(timed or MEASURED)
    found = results(asked, steps or usual(fp32=0.0, int8=0.01), facts)
    return Outcome.model_validate_json(conclude(asked, "r1", found).model_dump_json())


def of(outcome: Outcome, name: str) -> str:
    return why(outcome, next(c for c in outcome.candidates if c.name == name))


def test_the_winner_and_its_margins() -> None:
    said = of(concluded(), INT8)
    assert said.startswith(f"{INT8} won: it has the lowest latency.p50_ms (1), before {FP32} (2).")
    assert "- quality.drop is 0.01, at most 0.02: passed by 0.01" in said
    assert "Beside the winner" not in said


def test_a_slower_one_lost_by_how_much() -> None:
    said = of(concluded(), FP32)
    first = f"{FP32} passed every gate and lost to {INT8}: it takes 2 times as long [2, 2]."
    assert said.splitlines()[0] == first
    assert "- accuracy: 0.95, the winner's 0.94" in said
    assert "- size: 1.00 kB, the winner's 1.00 kB" in said


def test_a_tie_and_by_what_it_was_broken() -> None:
    alike = {**MEASURED, FP32: 1.0}
    assert (
        "in speed the two can't be told apart at 95 % confidence, and "
        f"{FP32} has the better accuracy (0.95, this one 0.94)."
    ) in of(concluded(timed=alike), INT8)
    equal = usual(fp32=0.0, int8=0.0)
    equal.metrics[f"validate {FP32}"]["size/bytes"] = 4000.0
    said = of(concluded(equal, alike), FP32)
    assert f"of the same quality {INT8} is smaller (1.00 kB, this one 4.00 kB)." in said


def test_one_that_was_probably_slower_has_no_tie() -> None:
    outcome = concluded()
    unsure = Compared(ratio=1.66, low=0.5, high=4.0)
    changed = [
        c.model_copy(update={"against_winner": unsure}) if c.name == FP32 else c
        for c in outcome.candidates
    ]
    assert (
        "it took 1.66 times as long [0.5, 4], though on a machine that was too noisy to be certain."
    ) in of(outcome.model_copy(update={"candidates": changed}), FP32)


def test_failed_gates_by_how_much() -> None:
    said = of(concluded(usual(fp32=0.0, int8=0.5)), INT8)
    assert said.startswith(
        f"{INT8} lost: it failed 1 gate: quality.drop is 0.5, at most 0.02: failed by 0.48."
    )
    defaults = of(concluded(usual(fp32=0.0, int8=0.5), gates=[]), INT8)
    assert "Gates (the defaults, because the recipe has none):" in defaults
    assert "There were no gates." in of(concluded(gates="none"), INT8)


def test_what_was_not_measured_says_why() -> None:
    steps = usual(fp32=0.0)
    steps.failing["compress int8"] = "there is nothing to quantize"
    outcome = concluded(steps, {"baseline": 4.0, FP32: 2.0})
    assert of(outcome, INT8) == f"{INT8} could not be measured: there is nothing to quantize"
    lines = in_short(outcome).splitlines()
    assert lines[0].startswith(f"{FP32} won: ")
    assert lines[1] == of(outcome, INT8)


def test_beside_the_champion() -> None:
    asked = recipe(gates=[{"metric": "latency.ratio_to_champion", "at_least": 1.5}])
    today = TodaysChampion(model="wine", alias="champion", version="3", candidate="old@x")
    steps = usual(fp32=0.0, int8=0.0)
    steps.metrics["validate champion"] = {"size/bytes": 500.0}
    timed = benchmarked({**MEASURED, "champion": 2.0})
    drops = {FP32: 0.0, INT8: 0.01}
    outcome = conclude(asked, "r", results(asked, steps, timed, champion=today, drops=drops))
    assert of(outcome, INT8).endswith(
        "Against the champion of the day, version 3 (old@x): 2 times as fast, 2 times its size, "
        "quality +0.01 lost."
    )
    nobody = conclude(
        asked,
        "r",
        results(
            asked,
            steps,
            benchmarked(MEASURED),
            champion=TodaysChampion(model="w", alias="champion"),
        ),
    )
    said = of(nobody, INT8)
    assert "latency.ratio_to_champion has no value, at least 1.5: passed (no champion yet)" in said
    assert said.endswith("Comparison with the champion: no champion yet.")


def test_a_suspicious_one_says_why() -> None:
    steps = usual(fp32=0.0, int8=-0.3)
    steps.metrics["reference"] = {"quality/accuracy": 0.6}
    steps.metrics[f"validate {INT8}"] |= {"quality/drop_high": -0.2}
    assert "It is suspicious: its accuracy is 0.3 better" in of(concluded(steps), INT8)


def far(**changed: object) -> Outcome:
    """An int8 candidate at 8 dB whose layers say where it departs."""
    steps = usual(fp32=0.0, int8=0.5)
    steps.metrics[f"validate {INT8}"]["parity/sqnr_db"] = 8.0
    layers = [
        {"layer": "first", "sqnr_db": 40.0, "before_db": 200.0},
        {"layer": "encoder.mix", "sqnr_db": 9.0, "before_db": 40.0},
        {"layer": "head", "sqnr_db": 8.5, "before_db": 9.0},
    ]
    steps.facts["layer-parity int8"] = {"layers": layers, "departs_at": "encoder.mix"}
    return concluded(steps, **changed)


def test_outputs_far_from_the_trained_models_name_the_layer_and_what_helps() -> None:
    line = (
        "its outputs have 8 dB SQNR: it departs at layer encoder.mix: 9 dB from inputs of 40 dB → "
        "skip_layers: ['encoder.mix'], or operators: layers, calibration: percentile, or engine: nncf"
    )
    outcome = far()
    assert f"I{line[1:]}." in of(outcome, INT8)
    assert departures(outcome) == [(INT8, line)]
    assert line in markdown(outcome, recipe())
    assert departures(far(gates=[{"metric": "quality.drop", "at_most": 1.0}])) == []
