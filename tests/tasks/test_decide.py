"""Gates and selection: pure functions of what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone import load_recipe
from prefect_hone.recipe.errors import RecipeError
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.choose import Measured, pick
from prefect_hone.tasks.decide import Beside, GateResult, judge, metric_name, usual_loss
from prefect_hone.tasks.todays_champion import TodaysChampion


def recipe(*overrides: str) -> Recipe:
    return load_recipe(Path(__file__).parent.parent / "project/recipe.yaml", overrides)


def measured(name: str, **metrics: float) -> Measured:
    return Measured(
        name=name,
        metrics={k.replace("__", "/"): v for k, v in metrics.items()},
    )


def test_a_gate_has_a_margin() -> None:
    made = recipe(
        "gates=[{metric: quality.drop, at_most: 0.02}, {metric: parity.cosine, at_least: 0.9}]"
    )
    first, second = judge(made, {"quality/drop": 0.005, "parity/cosine": 0.8})
    assert (first.passed, first.margin) == (True, pytest.approx(0.015))
    assert (second.passed, second.margin) == (False, pytest.approx(-0.1))


def test_a_limit_that_is_just_met_passes() -> None:
    made = recipe("gates=[{metric: size.bytes, at_most: 100}]")
    assert judge(made, {"size/bytes": 100})[0].passed


def test_what_was_not_measured_does_not_pass() -> None:
    (gate,) = judge(recipe(), {})
    assert not gate.passed
    assert gate.value is None


def test_batch_sizes_have_names_of_their_own() -> None:
    made = recipe("benchmark.batch_sizes=[1, 32]")
    assert metric_name(made, "latency.p50_ms", None) == "latency/p50_ms"
    assert metric_name(made, "latency.p50_ms", 1) == "latency/p50_ms"
    assert metric_name(made, "latency.p50_ms", 32) == "latency/p50_ms_batch_32"
    assert metric_name(made, "quality.value", None) == "quality/accuracy"


def test_the_best_that_passes_wins_and_why_is_said() -> None:
    winner, why = pick(
        recipe(), [measured("a", latency__p50_ms=2), measured("b", latency__p50_ms=1)]
    )
    assert winner is not None
    assert winner.name == "b"
    assert "lowest latency.p50_ms" in why
    assert "before a (2)" in why


def test_maximize_turns_it_around() -> None:
    made = recipe("select={maximize: quality.accuracy}")
    winner, _ = pick(
        made, [measured("a", quality__accuracy=0.9), measured("b", quality__accuracy=0.8)]
    )
    assert winner is not None
    assert winner.name == "a"


def test_indistinguishable_is_said() -> None:
    def timed(name: str, *rounds: float) -> Measured:
        metrics = {"latency/p50_ms": sum(rounds) / len(rounds)}
        return Measured(name=name, metrics=metrics, rounds=[list(rounds), list(rounds)[::-1]])

    first = timed("a", 1.0, 1.1, 1.0, 0.9, 1.0, 1.1)
    near = timed("b", 1.0, 1.2, 0.9, 1.0, 1.0, 1.1)
    far = timed("c", 2.0, 2.2, 2.0, 1.8, 2.0, 2.2)
    assert "can't be told apart" in pick(recipe(), [first, near])[1]
    assert "can't be told apart" not in pick(recipe(), [first, far])[1]


def test_nobody_wins_where_nobody_passes() -> None:
    assert pick(recipe(), []) == (None, "no candidate passed every gate")


BASELINE = {
    "quality/accuracy": 0.95, "quality/accuracy_low": 0.92, "quality/accuracy_high": 0.97,
    "size/bytes": 1000.0,
}  # fmt: skip
GOOD = {
    "quality/drop": 0.0, "latency/ratio": 3.0, "latency/ratio_high": 3.1, "size/bytes": 1100.0,
    "parity/sqnr_db": 120.0,
}  # fmt: skip


def judged(
    *overrides: str, rounding: float | None = None, champion: TodaysChampion | None = None,
    **changed: float | None,
) -> dict[str, GateResult]:  # fmt: skip
    given = {**GOOD, **{k.replace("__", "/"): v for k, v in changed.items()}}
    metrics = {name: value for name, value in given.items() if value is not None}
    beside = Beside(BASELINE, rounding, champion)
    return {gate.metric: gate for gate in judge(recipe(*overrides), metrics, beside)}


def test_a_recipe_without_gates_is_judged_by_the_defaults() -> None:
    for found in (judged("gates=[]"), judged("gates=[]", rounding=60)):
        assert all(gate.passed and gate.default for gate in found.values())
    assert list(judged("gates=[]")) == ["quality.drop", "latency.ratio"]
    assert judged("gates=none", quality__drop=0.9) == {}


def test_the_default_loss_is_the_references_interval_or_one_percent() -> None:
    within, beyond = (judged("gates=[]", quality__drop=d)["quality.drop"] for d in (0.0299, 0.0301))
    assert (within.passed, beyond.passed) == (True, False)
    assert within.limit == pytest.approx(0.95 - 0.92)
    sure = {"quality/accuracy": 0.9, "quality/accuracy_low": 0.899}
    assert usual_loss(recipe("gates=[]"), sure) == pytest.approx(0.009)
    loss = {"quality/rmse": 2.0, "quality/rmse_low": 1.9, "quality/rmse_high": 2.3}
    assert usual_loss(recipe("gates=[]", "quality.metric=rmse"), loss) == pytest.approx(0.3)
    assert not judged("gates=[]", quality__drop=None)["quality.drop"].passed, "not measured"


def test_the_int8_at_minus_3_db_that_lost_17_points_does_not_pass() -> None:
    found = judged("gates=[]", quality__drop=0.17, parity__sqnr_db=-3.1)
    assert not found["quality.drop"].passed


def test_an_uncompressed_candidate_is_within_rounding_whatever_the_gates_are() -> None:
    for gates in ("gates=[]", "gates=[{metric: quality.drop, at_most: 0.5}]"):
        for parity in (33.0, -2.7, None):
            wrong = judged(gates, rounding=60, parity__sqnr_db=parity)["parity.sqnr_db"]
            assert (wrong.passed, wrong.default) == (False, True)
            assert "nothing was compressed" in str(wrong.said)
        assert "parity.sqnr_db" not in judged(gates, parity__sqnr_db=20.0), "it is compressed"
    own = judged("gates=[{metric: quality.drop, at_most: 0.5}]", rounding=60)
    assert list(own) == ["quality.drop"], "it is listed beside the recipe's own only if it fails"
    decided = judged(
        "gates=[{metric: parity.sqnr_db, at_least: 30}]", rounding=60, parity__sqnr_db=33.0
    )
    assert [(g.passed, g.default) for g in decided.values()] == [(True, False)]
    assert judged("gates=none", rounding=60, parity__sqnr_db=-3.0) == {}


def test_half_precision_and_gpus_round_more() -> None:
    made = recipe(
        "targets=[onnxruntime-cpu, {kind: openvino-cpu, precision: bf16}, onnxruntime-cuda]"
    )
    assert [target.rounding_db for target in made.targets] == [60, 30, 30]


def test_nothing_slower_and_larger_than_what_it_replaces() -> None:
    slow = {"latency__ratio": 0.8, "latency__ratio_high": 0.9}
    assert not judged("gates=[]", **slow)["latency.ratio"].passed
    said = judged("gates=[]", **slow)["latency.ratio"].said
    assert said == "slower, and larger too: 1.10 kB, the trained model in PyTorch eager 1.00 kB"
    assert judged("gates=[]", **slow, size__bytes=900.0)["latency.ratio"].passed
    unsure = judged("gates=[]", latency__ratio=0.99, latency__ratio_high=1.01)
    assert unsure["latency.ratio"].passed, "it may be as fast"
    assert not judged("gates=[]", latency__ratio=None)["latency.ratio"].passed, "not measured"


def test_confidence_asks_for_the_bound() -> None:
    sure = "gates=[{metric: quality.drop, at_most: 0.02, confidence: 0.95}]"
    found = judged(sure, quality__drop=0.01, quality__drop_high=0.03)
    assert [(g.metric, g.value, g.passed) for g in found.values()] == [
        ("quality.drop_high", 0.03, False)
    ]
    least = "gates=[{metric: latency.ratio, at_least: 2, confidence: 0.95}]"
    assert judged(least, latency__ratio_low=2.1)["latency.ratio_low"].passed
    assert not judged(least)["latency.ratio_low"].passed, "a bound that was not measured"


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("{metric: size.bytes, at_most: 1, confidence: 0.95}", "has no 95 % interval"),
        ("{metric: quality.drop_high, at_most: 1, confidence: 0.95}", "has no 95 % interval"),
        ("{metric: quality.drop, at_most: 1, confidence: 0.9}", "can only be 0.95"),
    ],
)
def test_confidence_that_can_not_be_asked_for(gate: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(f"gates=[{gate}]")


def test_a_ratio_to_nothing_uncompressed_is_refused() -> None:
    with pytest.raises(RecipeError, match="no variant is uncompressed"):
        recipe(
            "gates=[{metric: latency.ratio_to_uncompressed, at_least: 1}]",
            "variants=[{name: int8, passes: [{kind: quantize, scheme: static-int8}]}]",
        )


def test_flips_of_what_has_no_answers_are_refused() -> None:
    flips = "gates=[{metric: flips.rate, at_most: 0.1}]"
    with pytest.raises(RecipeError, match="counts right and wrong answers, and rmse has none"):
        recipe("quality.metric=rmse", flips)
    assert recipe(flips).own_gates


FASTER = "gates=[{metric: latency.ratio_to_champion, at_least: 1.0}]"


def test_the_first_promotion_is_not_blocked_by_the_champion_that_is_not_there() -> None:
    nobody = TodaysChampion(model="wine", alias="champion")
    (gate,) = judged(FASTER, champion=nobody).values()
    assert (gate.passed, gate.value, gate.said) == (True, None, "no champion yet")
    assert (gate.champion, gate.alias) == ("none", "champion")


def test_a_champion_that_can_not_be_measured_fails_the_gate_with_the_reason() -> None:
    broken = TodaysChampion(model="w", alias="champion", version="3", problem="its files are gone")
    away = TodaysChampion(model="w", alias="champion", problem="MLflow did not answer for 20 s")
    for champion, said in (
        (broken, "version 3, the champion, can't be compared with: its files are gone"),
        (away, "the champion can't be compared with: MLflow did not answer for 20 s"),
        (None, "today's champion was not looked up"),
    ):
        (gate,) = judged(FASTER, champion=champion).values()
        assert (gate.passed, gate.value, gate.said) == (False, None, said)


def test_a_champion_that_was_measured_decides_by_the_numbers() -> None:
    champion = TodaysChampion(
        model="w", alias="champion", version="3", metrics={"size/bytes": 500.0}
    )
    for ratio, passed in ((1.2, True), (0.9, False)):
        found = judged(FASTER, champion=champion, latency__ratio_to_champion=ratio)
        gate = found["latency.ratio_to_champion"]
        assert (gate.passed, gate.value, gate.champion, gate.said) == (passed, ratio, "3", None)
    defaults = judged(
        "gates=[]", champion=champion, latency__ratio_to_champion=0.8,
        latency__ratio_to_champion_high=0.9,
    )  # fmt: skip
    gate = defaults["latency.ratio_to_champion"]
    assert not gate.passed, "slower and larger than the champion, if faster than eager"
    assert "larger too: 1.10 kB, today's champion 500 B" in str(gate.said)
