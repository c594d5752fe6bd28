"""Each metric agrees with scikit-learn's, and with itself when it is measured in parts."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.recipe.measures import METRICS
from sklearn import metrics as sk

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(200, 5)).astype(np.float32)
LABELS = rng.integers(0, 5, 200)
PREDICTED = rng.normal(size=(200, 2)).astype(np.float32)
TARGETS = PREDICTED + rng.normal(size=(200, 2)).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)

TOKEN_LOGITS, TOKENS = LOGITS.reshape(50, 4, 5), LABELS.reshape(50, 4)

EXPECTED = {
    "accuracy": (LOGITS, LABELS, sk.accuracy_score(LABELS, LOGITS.argmax(1))),
    "f1_macro": (LOGITS, LABELS, sk.f1_score(LABELS, LOGITS.argmax(1), average="macro")),
    "cross_entropy": (LOGITS, LABELS, sk.log_loss(LABELS, PROBABILITIES)),
    "bits_per_token": (TOKEN_LOGITS, TOKENS, sk.log_loss(LABELS, PROBABILITIES) / np.log(2)),
    "mae": (PREDICTED, TARGETS, sk.mean_absolute_error(TARGETS, PREDICTED)),
    "rmse": (PREDICTED, TARGETS, np.sqrt(sk.mean_squared_error(TARGETS, PREDICTED))),
    "r2": (
        PREDICTED,
        TARGETS,
        sk.r2_score(TARGETS, PREDICTED, multioutput="variance_weighted"),
    ),
}


def test_every_metric_of_the_catalogue_is_tested() -> None:
    assert set(EXPECTED) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_agrees_with_scikit_learn(name: str) -> None:
    outputs, targets, expected = EXPECTED[name]
    measure = metric(name)
    assert measure.aggregate(measure.per_sample(outputs, targets)) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("name", METRICS)
def test_parts_give_the_whole(name: str) -> None:
    outputs, targets, _ = EXPECTED[name]
    measure = metric(name)
    parts = [
        measure.per_sample(outputs[i : i + 30], targets[i : i + 30])
        for i in range(0, len(targets), 30)
    ]
    whole = measure.per_sample(outputs, targets)
    assert whole.ndim == 2
    assert measure.aggregate(np.concatenate(parts)) == pytest.approx(measure.aggregate(whole))
