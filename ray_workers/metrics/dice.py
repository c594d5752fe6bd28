"""Dice's coefficient of each sample, the mean over its classes or masks that occur, averaged.

A sample in which none occurs (an empty mask that is predicted as empty) doesn't count.
`torchmetrics.functional.segmentation.dice_score` with `average="macro"`, averaged over samples.
"""

from __future__ import annotations

import numpy as np

from .class_counts import counted
from .positions import Array, several_answers
from .sums import MEAN_OF_SUMS, RIGHT_AND_ALL, OfSums


def per_sample(outputs: Array, targets: Array) -> Array:
    """The sum over a sample's classes that occur, and their number (N, 2)."""
    several_answers(targets)
    hits, said, true = np.split(counted(outputs, targets), 3, axis=1)
    occur = said + true > 0
    each = np.where(occur, 2 * hits / np.where(occur, said + true, 1), 0.0)
    return np.stack([each.sum(axis=1), occur.sum(axis=1)], axis=1).astype(np.float64)


def _of_each(statistics: Array) -> Array:
    there = statistics[:, 1] > 0
    each = statistics[:, 0] / np.where(there, statistics[:, 1], 1)
    return np.stack([each, there], axis=1)


aggregate = OfSums(MEAN_OF_SUMS.value, _of_each, answers=RIGHT_AND_ALL)
