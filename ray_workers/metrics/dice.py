"""Dice's coefficient of each sample, the mean over its classes or masks that occur, averaged.

A sample in which none occurs (an empty mask that is predicted as empty) doesn't count.
`torchmetrics.functional.segmentation.dice_score` with `average="macro"`, averaged over samples.
"""

from __future__ import annotations

import numpy as np

from .class_counts import counted
from .positions import Array, several_answers


def per_sample(outputs: Array, targets: Array) -> Array:
    """The sum over a sample's classes that occur, and their number (N, 2)."""
    several_answers(targets)
    hits, said, true = np.split(counted(outputs, targets), 3, axis=1)
    occur = said + true > 0
    each = np.where(occur, 2 * hits / np.where(occur, said + true, 1), 0.0)
    return np.stack([each.sum(axis=1), occur.sum(axis=1)], axis=1).astype(np.float64)


def aggregate(statistics: Array) -> float:
    kept = statistics[statistics[:, 1] > 0]
    return float(np.mean(kept[:, 0] / kept[:, 1])) if len(kept) else float("nan")
