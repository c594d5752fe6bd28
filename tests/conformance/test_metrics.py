"""Every metric of the catalogue goes through the suite that third parties use."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.recipe.metrics import METRICS
from prefect_hone.testing.metrics import MetricCase, MetricTestSuite

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 5, 200)
RIGHT = 8 * np.eye(5, dtype=np.float32)[LABELS]
LOGITS = (RIGHT / 8 + rng.normal(size=(200, 5))).astype(np.float32)
TARGETS = rng.normal(size=(200, 2)).astype(np.float32)
PREDICTED = (TARGETS + rng.normal(size=(200, 2))).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)

EMBEDDED = rng.normal(size=(200, 8)).astype(np.float32)
NEAR = (EMBEDDED + rng.normal(size=EMBEDDED.shape) / 2).astype(np.float32)

CLASSES = (LOGITS, LABELS, RIGHT, -RIGHT)
NUMBERS = (PREDICTED, TARGETS, TARGETS, TARGETS + 9)
VECTORS = (NEAR, EMBEDDED, EMBEDDED, -EMBEDDED)
MANY = rng.integers(0, 20, 200)
MANY_RIGHT = 8 * np.eye(20, dtype=np.float32)[MANY]
OF_MANY = (MANY_RIGHT / 8 + rng.normal(size=(200, 20))).astype(np.float32)
TWENTY = (OF_MANY, MANY, MANY_RIGHT, -MANY_RIGHT)
MASKS = tuple(
    np.moveaxis(a.reshape(50, 2, 2, *a.shape[1:]), -1, 1) if a.ndim > 1 else a.reshape(50, 2, 2)
    for a in CLASSES
)
TOKENS = tuple(a.reshape(50, 4, *a.shape[1:]) for a in CLASSES)


def boxes() -> tuple[np.ndarray, ...]:
    """Two boxes in each of 60 pictures; found well, at another place, or not at all."""
    corner = rng.random((60, 2, 2)) * 50
    classes = rng.integers(0, 3, (60, 2, 1))
    true = np.concatenate([corner, corner + 20, classes], axis=2)
    shift = rng.normal(size=(60, 2, 1)) * 4
    score = rng.random((60, 2, 1)) / 2 + 0.5
    found = [np.concatenate([true[..., :4] + by, score, classes], axis=2) for by in (shift, 0, 500)]
    return found[0], true, found[1], found[2]


def drawn() -> tuple[np.ndarray, ...]:
    """Labels of one logit each; the outputs are overconfident."""
    logits = rng.normal(size=(400, 1)) * 2
    labels = (rng.random((400, 1)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return 3 * logits, labels, 99 * (2 * labels - 1), -99 * (2 * labels - 1)


def spearman(predicted: np.ndarray, true: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(
        np.mean([spearmanr(*pair).statistic for pair in zip(predicted.T, true.T, strict=True)])
    )


@functools.cache
def cases() -> dict[str, tuple[Any, float | None]]:
    """What each is asked with, and its value by scikit-learn."""
    from sklearn import metrics as sk

    said, weighed = LOGITS.argmax(1), MASKS[0].argmax(1).ravel()
    return {
        "accuracy": (CLASSES, sk.accuracy_score(LABELS, said)),
        "balanced_accuracy": (CLASSES, sk.balanced_accuracy_score(LABELS, said)),
        **{
            f"top{k}_accuracy": (TWENTY, sk.top_k_accuracy_score(MANY, OF_MANY, k=k))
            for k in (3, 5, 10)
        },
        "f1_micro": (CLASSES, sk.f1_score(LABELS, said, average="micro")),
        "f1_weighted": (CLASSES, sk.f1_score(LABELS, said, average="weighted")),
        "auroc": (CLASSES, sk.roc_auc_score(LABELS, PROBABILITIES, multi_class="ovr")),
        "calibration_error": (drawn(), None),
        "perplexity": (TOKENS, np.exp(sk.log_loss(LABELS, PROBABILITIES))),
        "mse": (NUMBERS, sk.mean_squared_error(TARGETS, PREDICTED)),
        "spearman": ((PREDICTED, TARGETS, TARGETS, -TARGETS), spearman(PREDICTED, TARGETS)),
        "cosine": (VECTORS, np.diag(sk.pairwise.cosine_similarity(NEAR, EMBEDDED)).mean()),
        "rank_agreement": ((NEAR, EMBEDDED, EMBEDDED, NEAR[::-1].copy()), None),
        "iou": (MASKS, sk.jaccard_score(MASKS[1].ravel(), weighed, average="macro")),
        "dice": (MASKS, None),
        "mean_average_precision": (boxes(), None),
        "mean_average_precision_50": (boxes(), None),
        "f1_macro": (CLASSES, sk.f1_score(LABELS, said, average="macro")),
        "cross_entropy": (CLASSES, sk.log_loss(LABELS, PROBABILITIES)),
        "bits_per_token": (TOKENS, sk.log_loss(LABELS, PROBABILITIES) / np.log(2)),
        "mae": (NUMBERS, sk.mean_absolute_error(TARGETS, PREDICTED)),
        "rmse": (NUMBERS, np.sqrt(sk.mean_squared_error(TARGETS, PREDICTED))),
        "r2": (NUMBERS, sk.r2_score(TARGETS, PREDICTED, multioutput="variance_weighted")),
    }


def test_every_metric_of_the_catalogue_has_a_case() -> None:
    assert set(cases()) == set(METRICS)


def test_every_metric_is_in_the_table_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/howto/metrics.md").read_text()
    for name, line in METRICS.items():
        (row,) = (r for r in page.splitlines() if r.startswith(f"| `{name}` |"))
        assert f"| {'higher' if line.higher_is_better else 'lower'} | {line.takes} |" in row


class TestMetrics(MetricTestSuite):
    @pytest.fixture(params=METRICS)
    def case(self, request: pytest.FixtureRequest) -> MetricCase:
        (outputs, targets, perfect, worst), expected = cases()[request.param]
        return MetricCase(
            metric(request.param), METRICS[request.param].higher_is_better, outputs, targets,
            perfect, worst, expected,
        )  # fmt: skip
