"""Switches of what is looked at: a gate on what is off is refused, and recipes without them load."""

from __future__ import annotations

import pytest
from prefect_hone import load_recipe
from prefect_hone.recipe.errors import RecipeError
from prefect_hone.recipe.measures import MEASURES
from prefect_hone.recipe.proofs import SWITCHES, Proofs

RECIPE = "digits"


def test_all_is_looked_at_unless_a_recipe_says_otherwise() -> None:
    assert load_recipe(RECIPE).proofs == Proofs()
    assert Proofs().off() == ()
    assert set(SWITCHES) <= set(Proofs.model_fields)


@pytest.mark.parametrize(
    "measure", [m for m in MEASURES.values() if m.proof], ids=lambda measure: measure.name
)
def test_a_gate_on_what_is_off_is_refused_with_the_names_that_exist(measure) -> None:
    gates = f"gates=[{{metric: {measure.name}, at_most: 1}}]"
    assert load_recipe(RECIPE, [gates]).own_gates
    with pytest.raises(RecipeError, match=rf"proofs\.{measure.proof} is off: .*quality\.drop,"):
        load_recipe(RECIPE, [gates, f"proofs.{measure.proof}=false"])
    with pytest.raises(RecipeError, match="off"):
        load_recipe(
            RECIPE, [f"select={{minimize: {measure.name}}}", f"proofs.{measure.proof}=false"]
        )


def test_inputs_must_be_fit_only_if_the_recipe_asks() -> None:
    gates = "gates=[{metric: robustness.worst_drop, at_most: 0.02}]"
    assert load_recipe(RECIPE).checked_proofs is None
    assert load_recipe(RECIPE, [gates]).checked_proofs == Proofs()
    named = load_recipe(RECIPE, ["proofs={kind: features, corrupted_samples: 9}"])
    assert named.checked_proofs == Proofs(kind="features")
    off = ["proofs={kind: features, robustness: false, explanation: false}"]
    assert load_recipe(RECIPE, off).checked_proofs is None


def test_a_bound_of_a_loss_under_corruption_needs_a_metric_with_an_interval() -> None:
    gate = "gates=[{metric: robustness.worst_drop, at_most: 0.1, confidence: 0.95}]"
    with pytest.raises(RecipeError, match="'calibration_error' has no 95 % interval"):
        load_recipe(RECIPE, [gate, "quality={metric: calibration_error}"])


def test_one_kind_of_groups_or_several() -> None:
    assert load_recipe(RECIPE).grouped_by == ("label",)
    several = load_recipe(RECIPE, ["quality.groups=[label, 'mine:size']"])
    assert several.grouped_by == ("label", "mine:size")
    assert ("mine:size", "quality.groups.1") in several.factories()
    assert load_recipe(RECIPE, ["quality.groups=[]"]).quality.groups is None
    assert load_recipe(RECIPE, ["proofs.groups=false"]).grouped_by == ()
    with pytest.raises(RecipeError, match="two groups have the same name"):
        load_recipe(RECIPE, ["quality.groups=[size, 'mine:size']"])
    with pytest.raises(RecipeError, match="'module:function'"):
        load_recipe(RECIPE, ["quality.groups=['mine:a b']"])
