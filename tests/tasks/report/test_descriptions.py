"""What MLflow's pages begin with: who won, how good and how fast it is, and how to load it."""

from __future__ import annotations

import made_runs as made
import pytest
from made_runs import INT8, MEASURED, benchmarked, recipe, results, usual
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.tasks.outcome import Champion, Outcome
from prefect_hone.tasks.report.descriptions import (
    model_description,
    run_description,
    version_description,
)


@pytest.fixture
def outcome() -> Outcome:
    asked = recipe()
    return conclude(asked, "r1", results(asked, usual(fp32=0.0, int8=0.01), benchmarked(MEASURED)))


def test_a_runs_description_begins_with_the_champion_its_quality_and_its_speed(
    outcome: Outcome,
) -> None:
    champion = Champion(
        candidate=INT8, model="wine", version="3", alias="champion", new=True, previous=None
    )
    first, _, *rest = run_description(
        outcome.model_copy(update={"champion": champion}), recipe()
    ).splitlines()
    assert first == (
        "**Champion: int8@onnxruntime-cpu**, accuracy 0.9400 (drop +0.0100), 2.00 [1.90, 2.10] times "
        "faster than PyTorch eager: 1.000 [0.900, 1.100] ms, 1.00 kB."
    )
    assert any(line.startswith("| candidate |") for line in rest)


def test_without_a_champion_it_says_so_first(outcome: Outcome) -> None:
    assert run_description(outcome, recipe()).startswith("No champion: ")


def test_a_version_says_what_it_is_where_it_is_from_and_how_to_load_it(outcome: Outcome) -> None:
    assert outcome.winning is not None
    text = version_description(outcome, recipe(), outcome.winning, "m-1")
    for part in (
        "Variant `int8` compiled for `onnxruntime-cpu`",
        f"the recipe `wine` ({recipe().digest()[:12]}), in the run `r1`",
        "accuracy: 0.9400 (trained model: 0.9500)",
        "latency at batch size 1: 1.000 [0.900, 1.100] ms with 1 thread\n",
        "times faster than PyTorch eager: 2.00 [1.90, 2.10]",
        "size: 1.00 kB",
        "`models:/wine@champion`",
        'mlflow.pyfunc.load_model("models:/m-1")',
    ):
        assert part in text, part
    assert "1 threads" not in text


def test_a_registered_model_says_which_alias_to_load() -> None:
    text = model_description(recipe(registry={"model": "wine", "alias": "live"}))
    assert "`live`" in text
    assert "models:/wine@live" in text
    assert made.RECIPE["name"] in text
