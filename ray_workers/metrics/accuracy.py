"""Share of right answers: of samples, of tokens or pixels that count, or of labels.

The largest output is the target's class (`positions.class_axis` says along which axis). Where
targets have the outputs' shape, they are labels, 0 or 1, and right if the logit's sign is.
"""

from __future__ import annotations

import numpy as np

from . import Array
from .positions import are_labels, by_position, mean_of_sums, sums_and_counts


def per_sample(outputs: Array, targets: Array) -> Array:
    """One column if a sample has one answer (NaN: it doesn't count), else sums and counts."""
    if are_labels(outputs, targets):
        right = ((outputs > 0) == (targets > 0)).reshape(len(targets), -1)
        counts = np.ones_like(right)
    else:
        logits, classes, counts = by_position(outputs, targets)
        right = logits.argmax(axis=-1) == classes
    if targets.ndim == 1:
        statistics: Array = np.where(counts, right, np.nan)
        return statistics
    return sums_and_counts(right, counts)


def aggregate(statistics: Array) -> float:
    if statistics.shape[1] == 2:
        return mean_of_sums(statistics)
    kept = statistics[~np.isnan(statistics)]
    return float(kept.mean()) if len(kept) else float("nan")
