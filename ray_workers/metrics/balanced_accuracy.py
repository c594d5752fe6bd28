"""Mean recall of the classes that occur, so that each class counts the same.

`sklearn.metrics.balanced_accuracy_score`; `torchmetrics.functional.accuracy` with `average="macro"`
if all classes occur.
"""

from __future__ import annotations

import numpy as np

from .class_counts import per_sample as counts_per_sample
from .class_counts import totals
from .positions import Array, two_classes


def per_sample(outputs: Array, targets: Array) -> Array:
    return counts_per_sample(*two_classes(outputs, targets))


def aggregate(statistics: Array) -> float:
    hits, _, true = totals(statistics)
    occur = true > 0
    return float(np.mean(hits[occur] / true[occur])) if occur.any() else float("nan")
