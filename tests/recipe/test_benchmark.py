"""Scenarios in a recipe: what does not fit is refused when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone import load_recipe
from prefect_hone.recipe.benchmark import RATES, Benchmark, Offline
from prefect_hone.recipe.errors import RecipeError
from prefect_hone.recipe.measures import MEASURES
from prefect_hone.recipe.schema import Recipe

RECIPE = Path(__file__).parent.parent / "project/recipe.yaml"
SERVER = "{kind: server, p99_ms: 5}"


def load(*overrides: str) -> Recipe:
    return load_recipe(RECIPE, overrides)


def test_each_scenario_has_a_measure() -> None:
    for kind, measure in RATES.items():
        assert MEASURES[measure].scenario == kind


def test_offline_takes_the_largest_batch() -> None:
    made = Benchmark.model_validate({"batch_sizes": [1, 32], "scenarios": [{"kind": "offline"}]})
    offline = made.scenario("offline")
    assert isinstance(offline, Offline)
    assert made.offline_batch(offline) == 32
    assert made.scenario("server") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (f"[{SERVER}, {SERVER}]", "the scenario 'server' is given twice"),
        ("[{kind: offline, batch_size: 7}]", "asks for batch size 7, which is not one of"),
        ("[{kind: multi-stream}]", "'multi-stream' is not one of"),
        ("[{kind: server}]", "this field is required"),
        ("[{kind: server, p99_ms: 0}]", "greater than 0"),
    ],
)
def test_what_does_not_fit_is_refused(given: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load(f"benchmark.scenarios={given}")


def test_the_server_answers_single_samples() -> None:
    with pytest.raises(RecipeError, match="answers one sample at a time: add 1 to batch_sizes"):
        load(f"benchmark.scenarios=[{SERVER}]", "benchmark.batch_sizes=[8]",
             "select={minimize: latency.p50_ms, batch_size: 8}")  # fmt: skip


@pytest.mark.parametrize(
    "asking",
    [
        "select={maximize: server.queries_per_s}",
        "gates=[{metric: server.queries_per_s, at_least: 10, confidence: 0.95}]",
        "gates=[{metric: server.p99_ms, at_most: 10}]",
    ],
)
def test_what_is_not_measured_cannot_be_asked_for(asking: str) -> None:
    with pytest.raises(RecipeError, match=r"needs the scenario .server. in"):
        load(asking)
    assert load(asking, f"benchmark.scenarios=[{SERVER}]").benchmark.scenario("server")
