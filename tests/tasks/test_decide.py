"""Gates and selection: pure functions of what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone import load_recipe
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.decide import Measured, judge, metric_name, pick


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
