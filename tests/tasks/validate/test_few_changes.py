"""Where few answers changed: Tango's interval, and metrics of answers in its terms."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.tasks.validate.few_changes import around_few_changes, tango, wilson
from prefect_hone.tasks.validate.interval import drop_interval, quality_interval
from scipy import optimize, stats

Z = stats.norm.ppf(0.975)


@pytest.mark.parametrize(
    ("worse", "better", "count"), [(5, 1, 200), (0, 7, 360), (30, 29, 1000), (1, 0, 20)]
)
def test_the_score_at_both_ends_is_that_of_95_percent(worse: int, better: int, count: int) -> None:
    """By the restricted likelihood itself, maximized numerically."""

    def score(loss: float) -> float:
        def deviance(rare: float) -> float:
            shares = np.array([rare + loss, rare, 1 - 2 * rare - loss])
            drawn = np.array([worse, better, count - worse - better])
            return -float((drawn * np.log(np.maximum(shares, 1e-300))).sum())

        bounds = (max(0.0, -loss) + 1e-12, (1 - loss) / 2 - 1e-12)
        rare = optimize.minimize_scalar(
            deviance, bounds=bounds, method="bounded", options={"xatol": 1e-13}
        ).x
        return float((worse - better - count * loss) / np.sqrt(count * (2 * rare + loss - loss**2)))

    low, high = tango(worse, better, count)
    assert score(low) == pytest.approx(Z, rel=2e-3)
    assert score(high) == pytest.approx(-Z, rel=2e-3)


def test_nothing_changed_is_not_certainty() -> None:
    low, high = tango(0, 0, 200)
    assert -low == high == pytest.approx(Z**2 / (200 + Z**2))
    assert tango(20, 0, 20)[1] == pytest.approx(1.0)


def answers(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Targets and logits of four classes, nearly all right."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, count)
    return targets, 4 * np.eye(4)[targets] + rng.normal(size=(count, 4))


@pytest.mark.parametrize("name", ["f1_macro", "f1_micro", "f1_weighted", "balanced_accuracy"])
def test_metrics_of_answers_have_it_in_their_unit(name: str) -> None:
    targets, logits = answers()
    judge = metric(name)
    rows = judge.per_sample(logits, targets)
    value, low, high = drop_interval(rows, rows.copy(), judge.aggregate, True)
    assert value == 0
    share = tango(0, 0, 200)[1]
    assert 0.9 * share < high < 1.1 * share, "all classes are alike here"
    assert low == pytest.approx(-high)


@pytest.mark.parametrize("name", ["f1_macro", "f1_micro", "balanced_accuracy"])
def test_all_right_is_not_perfect(name: str) -> None:
    targets = np.random.default_rng(0).integers(0, 4, 200)
    judge = metric(name)
    rows = judge.per_sample(4.0 * np.eye(4)[targets], targets)
    value, low, high = quality_interval(rows, judge.aggregate)
    assert value == high == 1
    assert low == pytest.approx(wilson(1.0, 200)[0], abs=2e-3)


def test_few_changes_widen_and_many_do_not() -> None:
    targets, logits = answers()
    judge = metric("f1_macro")
    before = judge.per_sample(logits, targets)
    for changed, expected in ((3, True), (40, False)):
        worse = logits.copy()
        worse[:changed] = np.roll(worse[:changed], 1, axis=1)
        after = judge.per_sample(worse, targets)
        found = around_few_changes(before, after, judge.aggregate, 1)
        assert (found is not None) is expected
        if found is not None:
            value, low, high = drop_interval(before, after, judge.aggregate, True)
            assert low <= found[0] < value < found[1] <= high
            assert low < 0.01, "that few changes could be chance"


def test_numbers_that_are_the_same_are_the_same() -> None:
    errors = np.random.default_rng(0).random((50, 1))
    judge = metric("mse")
    assert around_few_changes(errors, errors, judge.aggregate, -1) is None
    assert drop_interval(errors, errors, judge.aggregate, False) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ["iou", "dice"])
def test_masks(name: str) -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, (30, 4, 4))
    logits = 3 * np.moveaxis(np.eye(2)[targets], -1, 1) + rng.normal(size=(30, 2, 4, 4))
    judge = metric(name)
    rows = judge.per_sample(logits, targets)
    value, low, high = drop_interval(rows, rows.copy(), judge.aggregate, True)
    assert low < value == 0 < high < 0.3
