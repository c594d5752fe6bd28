"""One line per measure: what gates can name, MLflow's names and the table's columns come from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone import load_recipe
from prefect_hone.recipe.errors import RecipeError
from prefect_hone.recipe.gates import Gate
from prefect_hone.recipe.measures import (
    MEASURES,
    bytes_in_words,
    described_measures,
    find_measure,
    measure_names,
    mlflow_name,
)
from prefect_hone.recipe.metrics import METRICS
from prefect_hone.recipe.schema import Recipe
from pydantic import ValidationError

RECIPE = Path(__file__).parent.parent / "project/recipe.yaml"


def load(*overrides: str) -> Recipe:
    return load_recipe(RECIPE, overrides)


def test_every_measure_says_its_unit_and_has_a_name_of_its_own() -> None:
    assert all(measure.unit for measure in MEASURES.values())
    names = [name for measure in MEASURES.values() for name in measure.names]
    assert len(names) == len(set(names))
    headers = [measure.header for measure in MEASURES.values() if measure.header]
    assert len(headers) == len(set(headers))


@pytest.mark.parametrize("name", measure_names())
def test_a_gate_can_name_each_of_them(name: str) -> None:
    assert Gate(metric=name, at_most=1).metric == name


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda m: m.name)
def test_a_bound_is_called_as_its_measure_with_one_suffix(measure) -> None:
    bounds = [f"{measure.name}_low", f"{measure.name}_high"]
    assert list(measure.names[1:]) == (bounds if measure.has_interval else [])
    for name in measure.names:
        assert find_measure(name) is measure
        assert mlflow_name(name, "f1") == measure.mlflow("f1") + name.removeprefix(measure.name)


def test_the_recipes_own_metric_goes_by_its_name() -> None:
    assert mlflow_name("quality.value", "accuracy") == "quality/accuracy"
    assert mlflow_name("quality.value_high", "accuracy") == "quality/accuracy_high"
    assert mlflow_name("quality.values", "accuracy") == "quality/values"
    assert mlflow_name("latency.p50_ms_low", "accuracy") == "latency/p50_ms_low"
    assert {f"quality.{metric}" for metric in METRICS} <= set(measure_names())


def test_bounds_of_the_recipes_own_metric_can_be_gates_and_others_can_not() -> None:
    gates = "gates=[{metric: quality.accuracy_low, at_least: 0.5}, {metric: quality.drop_high, at_most: 0.1}]"
    assert [gate.metric for gate in load(gates).gates] == [
        "quality.accuracy_low",
        "quality.drop_high",
    ]
    with pytest.raises(RecipeError, match=r"'quality.mae_low', but quality.metric is 'accuracy'"):
        load("gates=[{metric: quality.mae_low, at_most: 1}]")
    with pytest.raises(RecipeError, match=r"needs quality\.groups"):
        load("quality={metric: accuracy}", "gates=[{metric: quality.worst_group, at_least: 1}]")


def test_an_unknown_measure_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match=r"did you mean 'latency.p50_ms'\?"):
        Gate(metric="latency.p50ms", at_most=1)
    with pytest.raises(ValidationError, match="does not depend on the batch size"):
        Gate(metric="size.bytes", at_most=1, batch_size=1)
    assert Gate(metric="latency.ratio_low", at_least=1, batch_size=1)


def test_a_gates_description_has_units_and_directions() -> None:
    text = described_measures()
    assert "latency.p50_ms (ms a call, lower is better)" in text
    assert "parity.sqnr_db (dB, higher is better)" in text
    assert text in str(Gate.model_fields["metric"].description)


def test_bytes_are_read_by_people() -> None:
    told = [bytes_in_words(n) for n in (0, 999, 1_000, 2_500_000, 3_210_000_000)]
    assert told == ["0 B", "999 B", "1.00 kB", "2.50 MB", "3.21 GB"]


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"metric": "quality.drop", "at_most": 0.1, "confidence": 0.95}, "'quality.drop_high'"),
        ({"metric": "quality.value_high", "at_most": 0.1}, "limit for 'quality.value'"),
        ({"metric": "quality.calibration_error_high", "at_most": 0.1}, "has no 95 % interval"),
    ],
)
def test_a_gate_on_the_interval_of_a_metric_without_one_is_refused(
    gate: dict[str, object], said: str
) -> None:
    fields = load().model_dump(mode="json") | {"quality": {"metric": "calibration_error"}}
    with pytest.raises(ValidationError, match=said):
        Recipe.model_validate({**fields, "gates": [gate]})
    plain = {"metric": "quality.drop", "at_most": 0.1}
    assert Recipe.model_validate({**fields, "gates": [plain]}).own_gates[0].judged == "quality.drop"


def test_a_gate_on_classes_is_refused_where_numbers_are_judged() -> None:
    fields = load().model_dump(mode="json") | {
        "gates": [{"metric": "flips.same_top", "at_least": 1}]
    }
    assert Recipe.model_validate(fields).own_gates
    with pytest.raises(ValidationError, match="compares classes, and rmse judges none"):
        Recipe.model_validate({**fields, "quality": {"metric": "rmse"}})


def test_a_gate_on_what_this_run_does_not_measure_is_refused_with_what_it_does() -> None:
    fields = load().model_dump(mode="json")
    wrong = {**fields, "gates": [{"metric": "quality.f1_macro", "at_least": 1}]}
    with pytest.raises(
        ValidationError, match=r"measures quality.accuracy, quality.value, quality.d"
    ):
        Recipe.model_validate(wrong)
    gate = {"metric": "coverage.fraction", "at_least": 0.9}
    plain = {**fields, "variants": [{"name": "fp32"}], "gates": [gate]}
    with pytest.raises(ValidationError, match="no variant has a pass"):
        Recipe.model_validate(plain)
    assert Recipe.model_validate({**fields, "gates": [gate]}).own_gates
