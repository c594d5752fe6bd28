"""Share of targets that are among the k largest outputs; of equal outputs the first comes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .accuracy import aggregate as share
from .positions import Array, by_position, sums_and_counts
from .sums import OfSums


def variant(k: int) -> TopK:
    """The metric for the k largest outputs."""
    return TopK(k)


@dataclass(frozen=True)
class TopK:
    k: int

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        """As of accuracy: one column if a sample has one answer, else sums and counts."""
        logits, classes, counts = by_position(outputs, targets)
        if logits.shape[-1] <= self.k:
            raise ValueError(
                f"with {logits.shape[-1]} classes each is among the {self.k} largest outputs"
            )
        own = np.take_along_axis(logits, classes[..., None], axis=-1)
        before = np.arange(logits.shape[-1]) < classes[..., None]
        right = ((logits > own) | ((logits == own) & before)).sum(axis=-1) < self.k
        if targets.ndim == 1:
            statistics: Array = np.where(counts, right, np.nan)
            return statistics
        return sums_and_counts(right, counts)

    @property
    def aggregate(self) -> OfSums:
        return share
