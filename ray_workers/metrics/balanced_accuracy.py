"""Mean recall of the classes that occur, so that each class counts the same.

`sklearn.metrics.balanced_accuracy_score`; `torchmetrics.functional.accuracy` with `average="macro"`
if all classes occur.
"""

from __future__ import annotations

import numpy as np

from .class_counts import ANSWERS, columns, split
from .class_counts import per_sample as counts_per_sample
from .positions import Array, two_classes
from .sums import OfSums, mean_where


def per_sample(outputs: Array, targets: Array) -> Array:
    return counts_per_sample(*two_classes(outputs, targets))


def _mean_recall(sums: Array, count: int) -> Array:
    hits, _, true = split(sums)
    return mean_where(hits / np.maximum(true, 1), true > 0)


aggregate = OfSums(_mean_recall, columns, answers=ANSWERS)
