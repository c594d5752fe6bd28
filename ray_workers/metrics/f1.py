"""F1 of each class or label that occurs: their mean, weighted mean, or that of all answers.

`torchmetrics.functional.f1_score` and `sklearn.metrics.f1_score` by the same names of averages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .class_counts import per_sample as counts_per_sample
from .class_counts import totals
from .positions import Array


def variant(average: str) -> F1:
    """The metric with an average: `macro`, `micro` or `weighted`."""
    return F1(average)


@dataclass(frozen=True)
class F1:
    average: str

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        return counts_per_sample(outputs, targets)

    def aggregate(self, statistics: Array) -> float:
        hits, said, true = totals(statistics)
        if self.average == "micro":
            answers = said.sum() + true.sum()
            return float(2 * hits.sum() / answers) if answers else float("nan")
        occur = said + true > 0
        if not occur.any():
            return float("nan")
        each = 2 * hits[occur] / (said + true)[occur]
        if self.average == "macro":
            return float(np.mean(each))
        weights = true[occur]
        return float(each @ weights / weights.sum()) if weights.any() else float("nan")
