"""Intersection over union of each class or mask that occurs, over all samples, averaged.

`torchmetrics.functional.jaccard_index` with `average="macro"`.
"""

from __future__ import annotations

import numpy as np

from .class_counts import counted, totals
from .positions import Array, several_answers


def per_sample(outputs: Array, targets: Array) -> Array:
    several_answers(targets)
    return counted(outputs, targets)


def aggregate(statistics: Array) -> float:
    hits, said, true = totals(statistics)
    union = said + true - hits
    occur = union > 0
    return float(np.mean(hits[occur] / union[occur])) if occur.any() else float("nan")
