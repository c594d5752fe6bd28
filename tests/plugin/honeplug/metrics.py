"""A metric: intersection over union of all classes taken together."""

from __future__ import annotations

import numpy as np


class Iou:
    """Of predicted and right classes: samples that are in both over those that are in either."""

    def per_sample(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        hit = outputs.argmax(axis=1) == targets
        return np.stack([hit, 2 - hit], axis=1).astype(np.float64)

    def aggregate(self, statistics: np.ndarray) -> float:
        hit, either = statistics.sum(axis=0)
        return float(hit / either)


iou = Iou()
