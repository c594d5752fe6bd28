"""Whom compression hurts: a model that is broken for one class passes the accuracy, and is seen here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from prefect_hone.ray_workers.data.groups import Grouping
from prefect_hone.ray_workers.metrics import accuracy, metric
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.specs.validate import ValidateFacts
from prefect_hone.tasks.validate import changes as module
from prefect_hone.tasks.validate.groups import Judged

LABELS = np.repeat(np.arange(10), 20)


def grouped(values: np.ndarray, by: str = "label") -> Grouping:
    names = [str(value) for value in values]
    groups = tuple(dict.fromkeys(names))
    return Grouping(by=by, groups=groups, members=tuple(map(groups.index, names)))


def changes(
    candidate: np.ndarray,
    reference: np.ndarray,
    labels: np.ndarray | None,
    aggregate: Callable[[np.ndarray], float],
    higher: bool,
) -> tuple[dict[str, float], ValidateFacts]:
    judged = Judged(candidate, reference, aggregate, higher)
    return module.changes(judged, [] if labels is None else [grouped(labels)])


def answers(wrong: dict[int, int]) -> np.ndarray:
    """Right but for so many samples of some labels."""
    right = np.ones((len(LABELS), 1))
    for label, count in wrong.items():
        right[np.flatnonzero(label == LABELS)[:count]] = 0
    return right


def test_one_broken_class_is_seen_although_the_accuracy_hardly_moves() -> None:
    trained, broken = answers({3: 1}), answers({3: 6})
    assert accuracy.aggregate(trained) - accuracy.aggregate(broken) < 0.03
    metrics, facts = changes(broken, trained, LABELS, accuracy.aggregate, True)
    assert metrics["quality/worst_group_drop"] == pytest.approx(0.25)
    assert metrics["quality/worst_group_drop_label"] == 3
    assert metrics["flips/wrong_rate"] == pytest.approx(5 / 200)
    first = facts.groups[0]
    assert (first.group, first.count, first.before, first.after) == ("3", 20, 0.95, 0.7)
    assert first.low < 0.7 < first.high
    assert all(group.drop == 0 for group in facts.groups[1:])
    assert facts.flips is not None
    assert facts.flips.p_value == pytest.approx(2 / 2**5)


def test_without_groups_only_flips_are_looked_at() -> None:
    metrics, facts = changes(answers({1: 1}), answers({2: 1}), None, accuracy.aggregate, True)
    assert metrics["flips/rate"] == pytest.approx(2 / 200)
    assert "quality/worst_group" not in metrics
    assert facts.groups == ()


def test_samples_that_do_not_count_are_no_group() -> None:
    labels = np.where(LABELS == 4, -100, LABELS)
    ignored = np.where(labels[:, None] == -100, np.nan, answers({}))
    _, facts = changes(ignored, ignored, labels, accuracy.aggregate, True)
    assert sorted(group.group for group in facts.groups) == [str(i) for i in range(10) if i != 4]


def test_a_metric_without_a_value_within_a_label_is_refused() -> None:
    measure = metric("auroc")
    rows = measure.per_sample(np.random.default_rng(0).normal(size=(200, 10)), LABELS)
    with pytest.raises(InputError, match="no value within a single label"):
        changes(rows, rows, LABELS, measure.aggregate, True)


def test_the_worst_group_of_several_kinds_is_found_with_the_interval_of_its_loss() -> None:
    trained, broken = answers({}), answers({3: 8})
    halves = grouped(np.where(LABELS < 5, "small", "large"), "size")
    judged = Judged(broken, trained, accuracy.aggregate, True)
    metrics, facts = module.changes(judged, [halves, grouped(LABELS)])
    first, second = facts.groups[:2]
    assert (first.name, first.count, first.drop) == ("3", 20, pytest.approx(0.4))
    assert (second.name, second.count, second.drop) == ("size small", 100, pytest.approx(0.08))
    assert 0 < first.drop_low < first.drop < first.drop_high
    assert str(first).startswith("label 3 (n = 20): 1.0000 to 0.6000 [+0.")
    # It holds whichever of the twelve groups is the worst, not only of the one that looks so.
    assert 0 < metrics["quality/worst_group_drop_low"] < first.drop_low
    assert metrics["quality/worst_group_drop_label"] == 3
    only_size, _ = module.changes(judged, [halves])
    assert only_size["quality/worst_group_drop"] == pytest.approx(0.08)
    assert "quality/worst_group_drop_label" not in only_size, "a name is no number"


def test_a_group_of_one_sample_has_no_interval() -> None:
    rows = np.array([[0.5], [1.0], [2.0]])
    measure = metric("rmse")
    _, facts = changes(rows, rows, np.array([0, 1, 1]), measure.aggregate, False)
    (alone,) = (group for group in facts.groups if group.count == 1)
    assert alone.low is None
    assert alone.high is None
