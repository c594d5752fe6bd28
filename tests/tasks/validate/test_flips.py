"""Flips: which samples, how many, and whether chance explains them."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.tasks.validate.flips import Flips, flips


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_both_ways_are_told_apart() -> None:
    found = flips(column(1, 1, 0, 0, 1), column(1, 0, 1, 0, 0))
    assert found == Flips(broken=(1, 4), repaired=(2,), count=5)
    metrics = found.metrics()
    assert metrics["flips/rate"] == pytest.approx(0.6)
    assert metrics["flips/wrong_rate"] == pytest.approx(0.4)
    assert metrics["flips/rate_low"] < 0.6 < metrics["flips/rate_high"]


def test_samples_that_do_not_count_are_left_out() -> None:
    found = flips(column(1, np.nan, 1), column(0, np.nan, 1))
    assert found == Flips(broken=(0,), repaired=(), count=2)
    assert flips(column(np.nan), column(np.nan)) is None


def test_where_a_lower_value_is_right() -> None:
    found = flips(column(0, 0, 1), column(1, 0, 1), higher_is_better=False)
    assert found is not None
    assert found.broken == (0,)


@pytest.mark.parametrize(
    "statistics", [np.zeros((3, 2)), column(0.5, 1, 0), np.zeros((0, 1)), np.zeros(3)]
)
def test_other_statistics_have_no_flips(statistics: np.ndarray) -> None:
    assert flips(statistics, statistics) is None


def test_mcnemar_is_the_binomial_test() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for broken, repaired in ((0, 0), (1, 0), (5, 5), (12, 2), (2, 12), (300, 200)):
        found = Flips(tuple(range(broken)), tuple(range(repaired)), 1000).p_value
        wanted = scipy.binomtest(broken, broken + repaired, 0.5).pvalue if broken + repaired else 1
        assert found == pytest.approx(wanted, rel=1e-9)


def test_no_difference_is_no_flip() -> None:
    found = flips(column(1, 0, 1), column(1, 0, 1))
    assert found is not None
    assert found.metrics()["flips/rate"] == 0
    assert found.p_value == 1
