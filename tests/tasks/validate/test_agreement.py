"""How far a candidate's answers agree with the trained model's."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.tasks.validate.agreement import agreement_metrics, agreement_rows
from scipy.special import softmax
from scipy.stats import entropy

made = np.random.default_rng(0)
BEFORE = made.normal(size=(60, 5)).astype(np.float32)
AFTER = (BEFORE + made.normal(size=(60, 5)) / 3).astype(np.float32)
CLASSES = made.integers(0, 5, 60)


def metrics(before: np.ndarray, after: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    rows = agreement_rows(before, after, targets)
    assert rows is not None
    return agreement_metrics(rows)


def test_divergence_and_same_answers() -> None:
    found = metrics(BEFORE, AFTER, CLASSES)
    wanted = entropy(softmax(BEFORE, axis=1), softmax(AFTER, axis=1), axis=1).mean()
    assert found["flips/kl_divergence"] == pytest.approx(wanted, rel=1e-5)
    same = (BEFORE.argmax(1) == AFTER.argmax(1)).mean()
    assert 0.5 < same < 1
    assert found["flips/same_top"] == pytest.approx(same)
    for name in ("flips/kl_divergence", "flips/same_top"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_a_model_agrees_with_itself() -> None:
    found = metrics(BEFORE, BEFORE, CLASSES)
    assert found["flips/kl_divergence"] == pytest.approx(0, abs=1e-12)
    assert found["flips/same_top"] == 1
    assert found["flips/same_top_low"] < 0.96, "60 samples are not all there are"


def test_tokens_that_do_not_count_are_left_out() -> None:
    before, after = (a.reshape(15, 4, 5) for a in (BEFORE, AFTER))
    targets = CLASSES.reshape(15, 4).copy()
    targets[:, 2:] = -100
    part = metrics(before, after, targets)
    kept = metrics(before[:, :2], after[:, :2], targets[:, :2])
    assert part == pytest.approx(kept)


def test_certain_answers_have_a_finite_divergence() -> None:
    sure = np.array([[2000.0, 0.0]] * 4)
    assert np.isfinite(metrics(sure, sure[:, ::-1], np.zeros(4, int))["flips/kl_divergence"])


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (BEFORE, np.ones((60, 5), np.int64)),  # labels
        (BEFORE[:, :1], made.normal(size=(60, 1))),  # numbers
        (BEFORE[:, :1], np.zeros(60, np.int64)),  # one class
        (BEFORE, np.full(60, 9)),
    ],
)
def test_other_outputs_have_no_agreement(outputs: np.ndarray, targets: np.ndarray) -> None:
    assert agreement_rows(outputs, outputs, targets) is None
