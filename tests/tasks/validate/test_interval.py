"""Intervals hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.validate.few_changes import tango
from prefect_hone.tasks.validate.interval import (
    drop_interval,
    quality_interval,
    samples_to_say,
    with_bounds,
)


def share(rows: np.ndarray) -> float:
    return float(rows.mean())


@pytest.mark.parametrize(
    ("count", "worse", "better"), [(100, 0.03, 0.01), (360, 0.02, 0.02), (1000, 0.005, 0.0)]
)
def test_a_paired_drop_holds_the_truth(count: int, worse: float, better: float) -> None:
    generator = np.random.default_rng(count)
    held = 0
    for _ in range(1000):
        drawn = generator.multinomial(count, [worse, better, 1 - worse - better])
        low, high = tango(int(drawn[0]), int(drawn[1]), count)
        held += low <= worse - better <= high
    assert held >= 925, "of 1000; it may hold more, for few samples"


def test_it_is_as_narrow_as_the_data_allow() -> None:
    low, high = tango(0, 0, 10_000)
    assert -0.0004 < low < 0 < high < 0.0004
    low, high = tango(400, 0, 10_000)
    assert low == pytest.approx(0.04 - 0.0039, abs=3e-4)
    assert high == pytest.approx(0.04 + 0.0039, abs=3e-4)


def test_never_different_on_few_samples_is_not_certain() -> None:
    same = np.ones((20, 1))
    value, low, high = drop_interval(same, same, share, True)
    assert value == 0
    assert low < -0.1
    assert high > 0.1


def test_the_direction_of_the_metric() -> None:
    reference, candidate = np.ones((50, 1)), np.ones((50, 1))
    candidate[:10] = 0
    value, low, high = drop_interval(reference, candidate, share, True)
    assert value == pytest.approx(0.2)
    assert 0 < low < value < high
    back = drop_interval(candidate, reference, share, True)
    assert back == pytest.approx((-value, -high, -low))

    def rmse(rows: np.ndarray) -> float:
        return float(np.sqrt(rows.mean()))

    errors = np.random.default_rng(0).random((200, 1)) + 1
    value, low, high = drop_interval(errors, errors * 4, rmse, False)
    assert low <= value <= high
    assert value == pytest.approx(rmse(errors)), "twice the error"


@pytest.mark.parametrize(("limit", "enough"), [(0.01, 381), (0.02, 189), (0.1, 35)])
def test_how_many_samples_a_sure_drop_needs(limit: float, enough: int) -> None:
    assert samples_to_say("drop", limit) == enough
    assert tango(0, 0, enough)[1] <= limit < tango(0, 0, enough - 1)[1]


def test_how_many_samples_a_sure_accuracy_needs() -> None:
    assert samples_to_say("value", 0.97) == 125
    assert samples_to_say("value", 1.0) is None, "no number of samples is enough"
    assert samples_to_say("drop", 0.0) is None


def test_few_samples_of_a_root_mean_square_have_a_wide_enough_interval() -> None:
    """A percentile bootstrap of 100 samples held the truth in 90.5 % of 1,000 tries."""
    aggregate, held = metric("rmse").aggregate, 0
    for seed in range(300):
        errors = np.random.default_rng(seed).normal(size=(100, 1)) ** 2
        _, low, high = quality_interval(errors, aggregate)
        held += low <= 1 <= high
    assert 275 <= held <= 295


@pytest.mark.parametrize("name", ["rmse", "cross_entropy", "spearman", "r2"])
def test_one_sample_has_no_interval(name: str) -> None:
    rows = np.array([[0.5, 1.0]]) if name != "rmse" else np.array([[0.5]])
    aggregate = metric(name).aggregate
    found = quality_interval(rows, aggregate)
    assert np.isnan(found[1:]).all()
    assert np.isnan(drop_interval(rows, rows, aggregate, True)[1:]).all()
    assert set(with_bounds("quality/x", found)) <= {"quality/x"}


def test_one_right_answer_proves_little() -> None:
    value, low, high = quality_interval(np.ones((1, 1)), share)
    assert (value, high) == (1, 1)
    assert low < 0.21


def test_samples_that_do_not_count_are_not_counted() -> None:
    rows = np.array([[1.0], [0.0], [np.nan], [np.nan]])
    aggregate = metric("accuracy").aggregate
    assert quality_interval(rows, aggregate) == quality_interval(rows[:2], aggregate)


def test_a_metric_that_noise_shifts_has_no_interval() -> None:
    rows = np.random.default_rng(0).random((50, 45))
    value, low, high = quality_interval(rows, metric("calibration_error").aggregate)
    assert value > 0
    assert np.isnan([low, high]).all()


def test_a_function_that_refuses_some_resamples_has_an_interval_all_the_same() -> None:
    def of_two_classes(rows: np.ndarray) -> float:
        if len(np.unique(rows[:, 1])) < 2:
            raise InputError("only one class is present", where="quality.metric")
        return float(rows[:, 0].mean())

    rows = np.stack([np.random.default_rng(0).normal(size=12), np.arange(12) == 3], axis=1)
    value, low, high = quality_interval(rows, of_two_classes)
    assert low < value < high
    with pytest.raises(InputError, match="only one class"):
        quality_interval(rows[:3], of_two_classes)
