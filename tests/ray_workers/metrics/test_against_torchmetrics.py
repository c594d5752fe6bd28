"""Hone's metrics have the values of torchmetrics, and of COCO's own evaluation."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from prefect_hone.ray_workers.metrics import metric

pytestmark = pytest.mark.slow  # importing torchmetrics takes twice as long as importing torch
rng = np.random.default_rng(7)
LOGITS = rng.normal(size=(60, 5)).astype(np.float32) * 2
CLASSES = rng.integers(0, 4, 60)  # the last class never occurs
IGNORING = np.where(rng.random(60) < 0.2, -100, CLASSES)
LABELS = (rng.random((60, 5)) < 0.3).astype(np.float32)
MASKS = rng.integers(0, 5, (60, 4, 4))
PIXELS = rng.normal(size=(60, 5, 4, 4)).astype(np.float32)
WORDS = rng.normal(size=(60, 6, 5)).astype(np.float32)
TOKENS = np.where(rng.random((60, 6)) < 0.2, -100, rng.integers(0, 5, (60, 6)))
NUMBERS, TRUE = (rng.normal(size=(60, 3)).astype(np.float32) for _ in range(2))


def cases(tm: Any) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, float]]:
    """A metric's name, what is judged, outputs, targets, and torchmetrics' value."""
    import torch
    from torchmetrics.functional.segmentation import dice_score
    from torchmetrics.functional.text import perplexity

    of, t = tm.functional, torch.from_numpy
    for told, targets in (("classes", CLASSES), ("ignoring", IGNORING)):
        asked = {"preds": t(LOGITS), "target": t(targets), "task": "multiclass", "num_classes": 5,
                 "ignore_index": -100}  # fmt: skip
        for k, name in ((1, "accuracy"), (3, "top3_accuracy")):
            yield name, told, LOGITS, targets, of.accuracy(**asked, top_k=k, average="micro")
        for average in ("macro", "micro", "weighted"):
            yield f"f1_{average}", told, LOGITS, targets, of.f1_score(**asked, average=average)
        yield "calibration_error", told, LOGITS, targets, of.calibration_error(**asked)
    every = np.where(IGNORING == 3, rng.integers(3, 5, 60), IGNORING)  # each class occurs
    yield "auroc", "ignoring", LOGITS, every, of.auroc(**{**asked, "target": t(every)})
    labels = {"preds": t(LOGITS), "target": t(LABELS).long(), "task": "multilabel", "num_labels": 5}
    yield "accuracy", "labels", LOGITS, LABELS, of.accuracy(**labels, average="micro")
    yield "f1_macro", "labels", LOGITS, LABELS, of.f1_score(**labels, average="macro")
    yield "auroc", "labels", LOGITS, LABELS, of.auroc(**labels)
    one = (LOGITS[:, :1], LABELS[:, :1])
    binary = {"preds": t(one[0]), "target": t(one[1]).long(), "task": "binary"}
    yield "auroc", "one label", *one, of.auroc(**binary)
    yield "calibration_error", "one label", *one, of.calibration_error(**binary)
    recalls = of.recall(**{**binary, "task": "multiclass", "num_classes": 2, "average": "macro",
                           "preds": (t(one[0]) > 0).long()})  # fmt: skip
    yield "balanced_accuracy", "one label", *one, recalls
    yield "iou", "classes", PIXELS, MASKS, of.jaccard_index(
        t(PIXELS), t(MASKS), task="multiclass", num_classes=5)  # fmt: skip
    dice = dice_score(
        t(PIXELS.argmax(1)), t(MASKS), num_classes=5, average="macro", input_format="index",
        aggregation_level="samplewise",
    )  # fmt: skip
    yield "dice", "classes", PIXELS, MASKS, dice.nanmean()
    yield "perplexity", "tokens", WORDS, TOKENS, perplexity(t(WORDS), t(TOKENS), ignore_index=-100)
    pair = (t(NUMBERS), t(TRUE))
    for name, value in {
        "mae": of.mean_absolute_error(*pair),
        "mse": of.mean_squared_error(*pair),
        "rmse": of.mean_squared_error(*pair, squared=False),
        "r2": of.r2_score(*pair, multioutput="variance_weighted"),
        "spearman": of.spearman_corrcoef(*pair).mean(),
        "cosine": of.cosine_similarity(*pair, reduction="mean"),
    }.items():
        yield name, "numbers", NUMBERS, TRUE, value


def test_values_are_those_of_torchmetrics() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    apart = []
    for name, told, outputs, targets, wanted in cases(torchmetrics):
        found = value(name, outputs, targets)
        if found != pytest.approx(float(wanted), rel=2e-5, abs=2e-6):
            apart.append(f"{name} of {told}: {found}, torchmetrics says {float(wanted)}")
    assert not apart


def value(name: str, outputs: np.ndarray, targets: np.ndarray) -> float:
    judge = metric(name)
    return judge.aggregate(judge.per_sample(outputs, targets))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_coco(seed: int) -> None:
    pytest.importorskip("pycocotools")
    outputs, targets = detections(np.random.default_rng(seed))
    whole, half = of_coco(outputs, targets)
    assert 0.05 < whole < half < 1
    assert value("mean_average_precision", outputs, targets) == pytest.approx(whole, abs=1e-9)
    assert value("mean_average_precision_50", outputs, targets) == pytest.approx(half, abs=1e-9)


def detections(made: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Crowded boxes of 3 classes in 25 pictures, padded; some are missed, some found twice."""
    corner = made.random((25, 12, 2)) * 60
    targets = np.concatenate([corner, corner + 10 + 20 * made.random((25, 12, 2)),
                              made.integers(0, 3, (25, 12, 1))], axis=2)  # fmt: skip
    outputs = np.zeros((25, 24, 6))
    for half in (slice(0, 12), slice(12, 24)):
        outputs[:, half, :4] = targets[..., :4] + made.normal(size=(25, 12, 4)) * 2
        outputs[:, half, 4] = made.integers(1, 60, (25, 12)) / 60  # with ties
        outputs[:, half, 5] = np.where(made.random((25, 12)) < 0.8, targets[..., 4], 1)
    outputs[made.random((25, 24)) < 0.3, 4] = 0
    targets[made.random((25, 12)) < 0.3, 4] = -100
    return outputs, targets


def of_coco(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(image: int, box: np.ndarray, number: float, **more: Any) -> dict[str, Any]:
        sides = box[2:4] - box[:2]
        return {"image_id": image, "category_id": int(number), "bbox": [*box[:2], *sides],
                "area": float(sides.prod()), "iscrowd": 0, **more}  # fmt: skip

    true = [entry(i, box, box[4]) for i, row in enumerate(targets) for box in row if box[4] >= 0]
    found = [
        entry(i, b, b[5], score=float(b[4]))
        for i, row in enumerate(outputs)
        for b in row
        if b[4] > 0
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {}, "images": [{"id": i} for i in range(len(outputs))],
            "categories": [{"id": i} for i in range(3)],
            "annotations": [{**entry, "id": i + 1} for i, entry in enumerate(true)],
        }  # fmt: skip
        coco.createIndex()
        judged = COCOeval(coco, coco.loadRes(found), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return float(judged.stats[0]), float(judged.stats[1])
