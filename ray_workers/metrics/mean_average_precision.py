"""Mean average precision of detected boxes, as COCO defines it.

https://cocodataset.org/#detection-eval. Boxes are x1, y1, x2, y2. A row of outputs whose score is 0
or less, and a row of targets whose class is below 0, is padding. At most 100 detections of a sample
and class count. Averaged over classes that occur, 101 recalls, and the overlaps 0.50, 0.55 to 0.95,
or one of them: `map` and `map_50` of `torchmetrics.detection.MeanAveragePrecision`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .positions import Array

_OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100


def variant(overlap: float) -> AveragePrecision:
    """The metric at one overlap."""
    return AveragePrecision((int(np.argmin(np.abs(_OVERLAPS - overlap))),))


def per_sample(outputs: Array, targets: Array) -> Array:
    return AveragePrecision().per_sample(outputs, targets)


def aggregate(statistics: Array) -> float:
    return AveragePrecision().aggregate(statistics)


@dataclass(frozen=True)
class AveragePrecision:
    """Attributes:
    overlaps: Indices in `_OVERLAPS`.
    """

    overlaps: tuple[int, ...] = tuple(range(len(_OVERLAPS)))

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        """The number K of detections; of each its score, class and at which overlaps it is right,
        as bits; and the classes of the true boxes (N, 1 + 3 K + M). NaN is padding.
        """
        _require_boxes(outputs, targets)
        rows = np.full((len(outputs), 1 + 3 * outputs.shape[1] + targets.shape[1]), np.nan)
        rows[:, 0] = outputs.shape[1]
        for row, found, true in zip(rows, outputs, targets, strict=True):
            found, true = found[found[:, 4] > 0].astype(np.float64), true[true[:, 4] >= 0]
            detections = _matched(found, true.astype(np.float64))
            row[1 : 1 + detections.size] = detections.ravel()
            start = 1 + 3 * outputs.shape[1]
            row[start : start + len(true)] = true[:, 4]
        return rows

    def aggregate(self, statistics: Array) -> float:
        end = 1 + 3 * int(statistics[0, 0])
        found = statistics[:, 1:end].reshape(-1, 3)
        found = found[~np.isnan(found[:, 0])]
        found = found[np.argsort(-found[:, 0], kind="stable")]
        true = statistics[:, end:]
        classes, counts = np.unique(true[~np.isnan(true)], return_counts=True)
        right = (found[:, 2].astype(np.int64)[:, None] >> np.array(self.overlaps)) & 1
        precisions = [
            _average_precision(right[found[:, 1] == number], int(count))
            for number, count in zip(classes, counts, strict=True)
        ]
        return float(np.mean(precisions)) if precisions else float("nan")


def _require_boxes(outputs: Array, targets: Array) -> None:
    if outputs.ndim != 3 or outputs.shape[2] != 6 or targets.ndim != 3 or targets.shape[2] != 5:
        raise ValueError(
            "it takes boxes (N, K, 6) of x1, y1, x2, y2, score, class, and targets (N, M, 5) of "
            "x1, y1, x2, y2, class"
        )


def _matched(found: Array, true: Array) -> Array:
    """A sample's detections (D, 3): score, class, and the overlaps at which each is right."""
    rows = []
    for number in np.unique(found[:, 5]):
        own = found[found[:, 5] == number]
        own = own[np.argsort(-own[:, 4], kind="stable")][:_MOST]
        overlaps = _overlaps(own, true[true[:, 4] == number])
        bits = sum((_right(overlaps, limit) << i for i, limit in enumerate(_OVERLAPS)),
                   np.zeros(len(own), np.int64))  # fmt: skip
        rows.append(np.stack([own[:, 4], own[:, 5], bits], axis=1))
    return np.concatenate(rows) if rows else np.empty((0, 3))


def _overlaps(one: Array, other: Array) -> Array:
    """Intersection over union of each pair of boxes (D, G)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:4], other[None, :, 2:4])
    both = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - both
    shares: Array = both / np.where(union > 0, union, 1)
    return shares


def _right(overlaps: Array, limit: float) -> Array:
    """Which detections find a true box that none before them found (D,): each the nearest one."""
    free = np.ones(overlaps.shape[1], bool)
    right = np.zeros(len(overlaps), np.int64)
    for index, row in enumerate(overlaps):
        shares = np.where(free, row, -1.0)
        if not len(shares) or shares.max() < min(limit, 1 - 1e-10):
            continue
        free[len(shares) - 1 - int(shares[::-1].argmax())] = False  # of equal ones the last
        right[index] = 1
    return right


def _average_precision(right: Array, count: int) -> float:
    """Mean precision at 101 recalls, of detections in the order of their scores (D, overlaps)."""
    hits = np.cumsum(right, axis=0)
    precision = hits / np.arange(1, len(right) + 1)[:, None]
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    areas = []
    for column in range(right.shape[1]):
        first = np.searchsorted(hits[:, column] / count, _RECALLS, "left")
        there = first < len(right)
        areas.append(precision[first[there], column].sum() / len(_RECALLS))
    return float(np.mean(areas))
