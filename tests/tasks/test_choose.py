"""Who wins among those that pass, and by what a tie is broken."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from prefect_hone import load_recipe
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.choose import Measured, pick
from prefect_hone.tasks.todays_champion import TodaysChampion

PROJECT = Path(__file__).parent.parent / "project/recipe.yaml"


def recipe(*overrides: str) -> Recipe:
    return load_recipe(PROJECT, overrides)


def timed(
    name: str, p50: float, accuracy: float, size: float, noise: float = 0.01, seed: int = 0
) -> Measured:
    """A candidate whose rounds scatter around its time (ms)."""
    drawn = random.Random(f"{name}{seed}")
    rounds = [[p50 / 1000 * drawn.gauss(1, noise) for _ in range(15)] for _ in range(4)]
    metrics = {"latency/p50_ms": p50, "quality/accuracy": accuracy, "size/bytes": size}
    return Measured(name=name, metrics=metrics, rounds=rounds)


def won(*candidates: Measured, **options: object) -> tuple[str, str]:
    winner, why = pick(recipe(), candidates, **options)  # type: ignore[arg-type]
    assert winner is not None
    return winner.name, why


def test_a_tie_in_speed_goes_to_the_better_quality() -> None:
    fast, good = timed("fast", 0.1000, 0.9861, 100), timed("good", 0.1001, 0.9944, 900)
    for order in ((fast, good), (good, fast)):
        name, why = won(*order)
        assert name == "good"
        assert why == (
            "at 95 % confidence it can't be told apart from fast, which has the lowest "
            "latency.p50_ms at batch size 1 (0.1, it 0.1001), and of the two it has the best quality (0.9944)"
        )


def test_then_to_the_smaller_artifact_then_to_the_value() -> None:
    name, why = won(timed("wide", 0.1, 0.99, 900e3), timed("slim", 0.1001, 0.99, 100e3))
    assert name == "slim"
    assert "of the same quality it is the smallest (100.00 kB)" in why
    name, why = won(timed("b", 0.1, 0.99, 100), timed("a", 0.1001, 0.99, 100))
    assert name == "b"
    assert "it has the lowest latency.p50_ms at batch size 1 (0.1), before a (0.1001)" in why
    assert why.endswith("of the same quality none is smaller")


def test_all_are_compared_with_the_fastest() -> None:
    slower = timed("slower", 0.12, 1.0, 1)
    name, why = won(timed("fast", 0.1, 0.97, 9), timed("good", 0.1002, 0.98, 9), slower)
    assert name == "good", "the slower one has the best quality, and is slower for certain"
    three = [timed(n, 0.1, q, 9) for n, q in (("a", 0.97), ("b", 0.98), ("c", 0.98))]
    three[2] = three[2].model_copy(update={"metrics": {**three[2].metrics, "size/bytes": 8.0}})
    name, why = won(*three, slower)
    assert name == "c"
    assert "of those with the best quality it is the smallest (8 B)" in why


def test_rounding_is_no_better_quality() -> None:
    name, _ = won(timed("wide", 0.1, 0.99, 900), timed("slim", 0.1001, 0.99 * (1 - 1e-7), 100))
    assert name == "slim"


def test_lower_is_better_for_a_loss() -> None:
    made = recipe("quality.metric=cross_entropy", "gates=[]")

    def one(name: str, loss: float) -> Measured:
        like = timed(name, 0.1, 0, 9)
        metrics = {"latency/p50_ms": 0.1, "quality/cross_entropy": loss, "size/bytes": 9.0}
        return like.model_copy(update={"metrics": metrics})

    winner, why = pick(made, [one("a", 0.5), one("b", 0.4)])
    assert winner is not None
    assert winner.name == "b"
    assert "best quality (0.4)" in why


def test_a_difference_of_five_percent_is_told_and_none_is_a_tie() -> None:
    ties = 0
    for seed in range(20):
        far = won(timed("a", 0.1, 0.9, 9, seed=seed), timed("b", 0.105, 1.0, 1, seed=seed))
        assert far[0] == "a"
        assert "before b (0.105)" in far[1]
        assert "too noisy" not in far[1]
        same = won(timed("a", 0.1, 0.9, 9, seed=seed), timed("b", 0.1, 1.0, 1, seed=seed))
        ties += same[0] == "b"
    assert ties >= 18, "at 95 % confidence, one of 20 may be told apart by chance"


def test_a_machine_too_noisy_to_tell_says_so_and_chooses_by_quality() -> None:
    fast, good = timed("fast", 0.1, 0.98, 9, noise=0.5), timed("good", 0.11, 0.99, 9, noise=0.5)
    name, why = won(fast, good)
    assert name == "good"
    assert "the machine was too noisy to tell them apart: one could be slower by " in why
    few = [c.model_copy(update={"rounds": c.rounds[:2]}) for c in (fast, good)]
    for launch, times in enumerate((0.5, 1.8)):
        few[1].rounds[launch][:] = [times * value for value in few[0].rounds[launch]]
    assert "slower by more than 100 % (measure on a quiet machine" in won(*few)[1]


def test_who_took_a_quarter_longer_has_no_tie_though_the_machine_was_noisy() -> None:
    """Two launches can't tell 0.36 ms from 0.63 ms: the smaller one won, and nobody believed it."""

    def launched(name: str, times: tuple[float, float], accuracy: float, size: float) -> Measured:
        one = timed(name, sum(times) / 2, accuracy, size)
        return one.model_copy(update={"rounds": [[t / 1000] * 5 for t in times]})

    fast, small = launched("fast", (0.3, 0.4), 0.9, 900), launched("small", (0.7, 0.55), 0.9, 100)
    name, why = won(fast, small)
    assert name == "fast"
    assert (
        "before small (0.625); the machine was too noisy to be certain that small is slower" in why
    )
    near = launched("near", (0.38, 0.33), 0.95, 900)
    name, why = won(fast, small, near)
    assert name == "near", "a tie of the two that are close"
    assert "of the two it has the best quality" in why
    assert "that small is slower" in why


def test_equal_values_of_what_is_not_timed_are_a_tie_too() -> None:
    made = recipe("select={maximize: quality.accuracy}")
    winner, why = pick(made, [timed("wide", 0.1, 0.99, 900), timed("slim", 0.2, 0.99, 100)])
    assert winner is not None
    assert winner.name == "slim"
    assert why == (
        "it has the highest quality.accuracy (0.99), as wide has, and of the same quality "
        "it is the smallest (100 B)"
    )


def test_who_has_no_rival_is_not_before_any() -> None:
    assert won(timed("a", 0.1, 1, 1), entrants=1)[1].endswith("; it is the only candidate")
    alone = won(timed("a", 0.1, 1, 1), entrants=3)[1]
    assert alone.endswith("; no other candidate passed every gate")


@pytest.mark.parametrize("problem", [None, "its files are gone"])
def test_selection_by_the_champion(problem: str | None) -> None:
    made = recipe("select={maximize: latency.ratio_to_champion}")
    candidates = [timed("a", 0.1, 1, 1), timed("b", 0.2, 1, 1)]
    for one, speed in zip(candidates, (8.0, 4.0), strict=True):
        one.metrics["latency/ratio"] = speed
    nobody = TodaysChampion(model="m", alias="champion")
    winner, why = pick(made, candidates, nobody)
    assert winner is not None
    assert (winner.name, "the highest latency.ratio (8)" in why) == ("a", True)
    broken = nobody.model_copy(update={"version": "3", "problem": "its files are gone"})
    assert pick(made, candidates, broken) == (
        None,
        "no candidate has a value of latency.ratio_to_champion: version 3, the champion, can't be "
        "compared with: its files are gone",
    )
