"""Each metric agrees with scikit-learn's, and with itself when it is measured in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prefect_hone.ray_workers.metrics import MetricFunctions, metric
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed, use_code
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


OWN = """
from pathlib import Path

import numpy as np

class Iou:
    def per_sample(self, outputs, targets):
        hit = outputs.argmax(1) == targets
        return np.stack([hit, np.ones(len(hit))], 1)

    def aggregate(self, statistics):
        hit, seen = statistics.sum(0)
        return hit / (2 * seen - hit)

iou = Iou()

class Flat(Iou):
    def per_sample(self, outputs, targets):
        return outputs.argmax(1) == targets

class Raises(Iou):
    def aggregate(self, statistics):
        raise KeyError("no such class")

class Asks(Iou):
    def __init__(self, classes):
        pass

class Half:
    def per_sample(self, outputs, targets):
        return None
"""


def own(tmp_path: Path, name: str) -> MetricFunctions:
    (tmp_path / "own_measures.py").write_text(OWN)
    use_code(tmp_path)
    return metric(f"own_measures:{name}", Allowed.from_environment(tmp_path))


@pytest.mark.parametrize("name", ["iou", "Iou"])
def test_a_metric_of_your_own_by_its_import_path(tmp_path: Path, name: str) -> None:
    measure = own(tmp_path, name)
    right = sk.accuracy_score(LABELS, LOGITS.argmax(1))
    rows = measure.per_sample(LOGITS, LABELS)
    assert rows.dtype == np.float64
    assert measure.aggregate(rows) == pytest.approx(right / (2 - right))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Flat", r"own_measures:Flat: per_sample gave an array of shape \(200,\) for 200 samples"),
        ("Raises", r"own_measures:Raises: aggregate raised KeyError.*own_measures.py:23"),
        ("Asks", r"own_measures:Asks: the metric raised TypeError.*'classes'"),
        ("Half", r"own_measures:Half: the metric has no function 'aggregate'"),
        ("Iuo", r"'own_measures' has no 'Iuo': did you mean 'Iou'?"),
    ],
)
def test_what_is_wrong_with_a_metric_of_your_own_names_it(
    tmp_path: Path, name: str, said: str
) -> None:
    def judged() -> float:
        measure = own(tmp_path, name)
        return measure.aggregate(measure.per_sample(LOGITS, LABELS))

    with pytest.raises(InputError, match=said):
        judged()
