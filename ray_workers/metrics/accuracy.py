"""Share of right answers: of samples, of tokens or pixels that count, or of labels.

The largest output is the target's class (`positions.class_axis` says along which axis). Where
targets have the outputs' shape, they are labels, 0 or 1, and right if the logit's sign is.
"""

from __future__ import annotations

import numpy as np

from . import Array
from .positions import are_labels, by_position, sums_and_counts
from .sums import MEAN_OF_SUMS, RIGHT_AND_ALL, OfSums


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


def _sums_and_counts(statistics: Array) -> Array:
    if statistics.shape[1] == 2:
        return statistics
    return np.concatenate([np.nan_to_num(statistics), ~np.isnan(statistics)], axis=1)


aggregate = OfSums(MEAN_OF_SUMS.value, _sums_and_counts, answers=RIGHT_AND_ALL)
