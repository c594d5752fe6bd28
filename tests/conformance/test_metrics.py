"""Every metric of the catalogue goes through the suite that third parties use."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.recipe.measures import METRICS
from prefect_hone.testing.metrics import MetricCase, MetricTestSuite

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 5, 200)
RIGHT = 8 * np.eye(5, dtype=np.float32)[LABELS]
LOGITS = (RIGHT / 8 + rng.normal(size=(200, 5))).astype(np.float32)
TARGETS = rng.normal(size=(200, 2)).astype(np.float32)
PREDICTED = (TARGETS + rng.normal(size=(200, 2))).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)

CLASSES = (LOGITS, LABELS, RIGHT, -RIGHT)
NUMBERS = (PREDICTED, TARGETS, TARGETS, TARGETS + 9)
TOKENS = tuple(a.reshape(50, 4, *a.shape[1:]) for a in CLASSES)


@functools.cache
def cases() -> dict[str, tuple[Any, float]]:
    """What each is asked with, and its value by scikit-learn."""
    from sklearn import metrics as sk

    return {
        "accuracy": (CLASSES, sk.accuracy_score(LABELS, LOGITS.argmax(1))),
        "f1_macro": (CLASSES, sk.f1_score(LABELS, LOGITS.argmax(1), average="macro")),
        "cross_entropy": (CLASSES, sk.log_loss(LABELS, PROBABILITIES)),
        "bits_per_token": (TOKENS, sk.log_loss(LABELS, PROBABILITIES) / np.log(2)),
        "mae": (NUMBERS, sk.mean_absolute_error(TARGETS, PREDICTED)),
        "rmse": (NUMBERS, np.sqrt(sk.mean_squared_error(TARGETS, PREDICTED))),
        "r2": (NUMBERS, sk.r2_score(TARGETS, PREDICTED, multioutput="variance_weighted")),
    }


def test_every_metric_of_the_catalogue_has_a_case() -> None:
    assert set(cases()) == set(METRICS)


class TestMetrics(MetricTestSuite):
    @pytest.fixture(params=METRICS)
    def case(self, request: pytest.FixtureRequest) -> MetricCase:
        (outputs, targets, perfect, worst), expected = cases()[request.param]
        return MetricCase(
            metric(request.param), METRICS[request.param].higher_is_better, outputs, targets,
            perfect, worst, expected,
        )  # fmt: skip
