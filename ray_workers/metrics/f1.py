"""F1 of each class or label that occurs: their mean, weighted mean, or that of all answers.

`torchmetrics.functional.f1_score` and `sklearn.metrics.f1_score` by the same names of averages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .class_counts import ANSWERS, columns, split
from .class_counts import per_sample as counts_per_sample
from .positions import Array
from .sums import OfSums, mean_where, ratio


def variant(average: str) -> F1:
    """The metric with an average: `macro`, `micro` or `weighted`."""
    return F1(average)


@dataclass(frozen=True)
class F1:
    average: str

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        return counts_per_sample(outputs, targets)

    @property
    def aggregate(self) -> OfSums:
        return OfSums(self._value, columns, answers=ANSWERS)

    def _value(self, sums: Array, count: int) -> Array:
        hits, said, true = split(sums)
        if self.average == "micro":
            return ratio(2 * hits.sum(axis=-1), (said + true).sum(axis=-1))
        occur = said + true > 0
        each = np.where(occur, 2 * hits / np.where(occur, said + true, 1), 0)
        if self.average == "macro":
            return mean_where(each, occur)
        return ratio((each * true).sum(axis=-1), true.sum(axis=-1))
