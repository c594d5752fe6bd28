"""What counts in metrics: ignored targets, several answers of a sample, labels."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.ray_workers.metrics import metric, stacked
from prefect_hone.ray_workers.metrics.positions import class_axis
from prefect_hone.recipe.errors import InputError
from sklearn import metrics as sk

rng = np.random.default_rng(2)
LOGITS = rng.normal(size=(40, 6, 5)).astype(np.float32)
TOKENS = rng.integers(0, 5, (40, 6))
COUNTS = rng.random((40, 6)) < 0.4
TARGETS = np.where(COUNTS, TOKENS, -100)


def value(name: str, outputs: np.ndarray, targets: np.ndarray, parts: int = 3) -> float:
    """Judged in parts, as workers do."""
    measure = metric(name)
    rows = [
        measure.per_sample(o, t)
        for o, t in zip(np.array_split(outputs, parts), np.array_split(targets, parts), strict=True)
    ]
    return measure.aggregate(np.concatenate(rows))


@pytest.mark.parametrize("one_answer", [True, False], ids=["(N,)", "(N, T)"])
def test_ignored_targets_do_not_count(one_answer: bool) -> None:
    logits, targets = (LOGITS[:, 0], TARGETS[:, 0]) if one_answer else (LOGITS, TARGETS)
    kept = targets != -100
    true, predicted = targets[kept], logits.argmax(-1)[kept]
    shares = np.exp(logits[kept]) / np.exp(logits[kept]).sum(-1, keepdims=True)
    nats = -np.log(shares[np.arange(len(true)), true]).mean()
    assert value("accuracy", logits, targets) == pytest.approx((predicted == true).mean())
    assert value("cross_entropy", logits, targets) == pytest.approx(nats, rel=1e-5)
    assert value("f1_macro", logits, targets) == pytest.approx(
        sk.f1_score(true, predicted, average="macro")
    )
    if not one_answer:
        assert value("bits_per_token", logits, targets) == pytest.approx(nats / np.log(2), rel=1e-5)


def test_targets_that_are_no_class_are_named() -> None:
    for name in ("accuracy", "cross_entropy", "f1_macro", "bits_per_token"):
        with pytest.raises(InputError, match="a target is 7, and the classes are 0 to 4"):
            value(name, LOGITS, np.where(COUNTS, 7, TOKENS))


def test_labels_are_judged_each_by_its_logit() -> None:
    logits, labels = LOGITS[:, 0], (rng.random((40, 5)) < 0.3).astype(np.float32)
    assert value("f1_macro", logits, labels) == pytest.approx(
        sk.f1_score(labels, logits > 0, average="macro")
    )
    assert value("accuracy", logits, labels) == pytest.approx(((logits > 0) == labels).mean())
    one = labels[:, :1]
    assert value("accuracy", logits[:, :1], one) == pytest.approx(
        ((logits[:, :1] > 0) == one).mean()
    )
    with pytest.raises(InputError, match="each 0 or 1"):
        value("f1_macro", logits, labels * 0.5)


def test_numbers_are_compared_in_one_shape_only() -> None:
    one = rng.normal(size=(8, 1))
    for name in ("mae", "rmse", "r2"):
        measure = metric(name)
        assert value(name, one, one[:, 0]) == (1 if name == "r2" else 0)
        with pytest.raises(InputError, match="differ in shape"):
            measure.per_sample(np.zeros((8, 2, 3)), np.zeros((8, 3, 2)))


def test_where_classes_are() -> None:
    assert class_axis((4, 3), (4,)) == 1
    assert class_axis((4, 6, 3), (4, 6)) == 2
    assert class_axis((4, 6, 6), (4, 6)) == 2
    assert class_axis((4, 3, 6), (4, 6)) == 1
    assert class_axis((4, 6, 6, 6), (4, 6, 6)) == 1
    assert class_axis((4, 6, 7, 3), (4, 6, 7)) == 3


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "said"),
    [
        ("top5_accuracy", LOGITS, TOKENS, "with 5 classes each is among the 5 largest"),
        ("auroc", LOGITS, TOKENS, "one class for each sample"),
        ("iou", LOGITS[:, 0], TOKENS[:, 0], "it takes masks"),
        ("dice", LOGITS, TOKENS, "it takes masks"),
        ("balanced_accuracy", LOGITS[:, 0], np.ones((40, 5)), "it takes class numbers"),
        ("calibration_error", LOGITS[:, 0], np.ones((40, 5)), "one logit and label"),
        ("cosine", LOGITS[:, 0], LOGITS[:, 1, :3], "differ in shape"),
        ("cosine", LOGITS[:, 0], TOKENS[:, 0], "it takes vectors"),
        ("spearman", LOGITS[:, 0], TOKENS[:, 0], "differ in shape"),
        ("mean_average_precision", LOGITS, TOKENS, r"it takes boxes \(N, K, 6\)"),
        ("perplexity", TARGETS.astype(np.float32), TOKENS, "of class numbers|class numbers of"),
    ],
)
def test_what_a_metric_can_not_judge_is_refused(
    name: str, outputs: np.ndarray, targets: np.ndarray, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        value(name, outputs, targets)


def test_of_equal_outputs_the_first_comes_first() -> None:
    outputs, targets = np.zeros((10, 10), np.float32), np.arange(10)
    assert value("accuracy", outputs, targets) == pytest.approx(0.1)
    assert value("top3_accuracy", outputs, targets) == pytest.approx(0.3)


def test_what_has_no_value_is_not_a_number() -> None:
    one_class = np.zeros(40, np.int64)
    assert np.isnan(value("auroc", LOGITS[:, 0], one_class))
    assert np.isnan(value("spearman", LOGITS[:, 0], np.ones((40, 5))))


def test_parts_with_more_true_boxes_are_padded() -> None:
    box, miss = [0, 0, 9, 9, 0.9, 1], [5, 5, 9, 9, 0.8, 1]
    outputs = np.array([[box, miss]] * 6, np.float32)
    one, two = (
        np.array([[[0, 0, 9, 9, 1]]] * 3),
        np.array([[[0, 0, 9, 9, 1], [20, 20, 30, 30, 1]]] * 3),
    )
    measure = metric("mean_average_precision")
    rows = stacked([measure.per_sample(outputs[:3], one), measure.per_sample(outputs[3:], two)])
    padded = np.concatenate([np.concatenate([one, np.full((3, 1, 5), -100)], axis=1), two])
    assert measure.aggregate(rows) == value("mean_average_precision", outputs, padded, parts=1)
    assert measure.aggregate(rows) == pytest.approx(0.663, abs=0.01)
