"""A gate that asks for more certainty than the test split can give."""

from __future__ import annotations

import made_runs as made
import pytest
from prefect_hone.flows.engine.certainty import unsure_gates

SURE = {"metric": "quality.drop", "at_most": 0.01, "confidence": 0.95}


def test_the_size_that_would_do_is_told() -> None:
    asked = made.recipe(gates=[SURE])
    assert unsure_gates(asked, 100) == [
        "the gate quality.drop_high at most 0.01 can't be passed with this test split of 100 "
        "samples, however good a candidate is: 381 samples would do"
    ]
    assert unsure_gates(asked, 381) == []
    assert unsure_gates(asked, None) == [
        "the gate quality.drop_high at most 0.01 needs a test split of at least 381 samples"
    ]


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"metric": "quality.accuracy", "at_least": 0.97, "confidence": 0.95}, "125 samples"),
        ({"metric": "quality.value_low", "at_least": 0.97}, "125 samples"),
        ({"metric": "quality.drop_from_champion_high", "at_most": 0.02}, "189 samples"),
        ({**SURE, "at_most": 0.0}, "with any test split"),
    ],
)
def test_however_the_bound_is_named(gate: dict[str, object], said: str) -> None:
    (text,) = unsure_gates(made.recipe(gates=[gate]), 50)
    assert said in text


def test_what_is_not_certain_or_not_a_share_is_not_told_of() -> None:
    assert unsure_gates(made.recipe(gates=[{**SURE, "confidence": None}]), 5) == []
    assert unsure_gates(made.recipe(gates=[SURE], quality={"metric": "rmse"}), 5) == []
    speed = {"metric": "latency.ratio", "at_least": 2, "confidence": 0.95}
    assert unsure_gates(made.recipe(gates=[speed]), 5) == []
    assert unsure_gates(made.recipe(gates="none"), 5) == []
