"""Intersection over union of each class or mask that occurs, over all samples, averaged.

`torchmetrics.functional.jaccard_index` with `average="macro"`.
"""

from __future__ import annotations

import numpy as np

from .class_counts import ANSWERS, counted, split
from .positions import Array, several_answers
from .sums import OfSums, mean_where


def per_sample(outputs: Array, targets: Array) -> Array:
    several_answers(targets)
    return counted(outputs, targets)


def _mean_share(sums: Array, count: int) -> Array:
    hits, said, true = split(sums)
    union = said + true - hits
    return mean_where(hits / np.maximum(union, 1), union > 0)


aggregate = OfSums(_mean_share, answers=ANSWERS)
