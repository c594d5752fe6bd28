"""What metrics of classes count: for each class or label its hits, predictions and occurrences.

Targets are class numbers (N,) or (N, ...), of which -100 doesn't count, or labels 0 and 1 of the
outputs' shape (N, C, ...), for which a positive logit says 1.
"""

from __future__ import annotations

import numpy as np

from .positions import Array, are_labels, by_position
from .sums import Answers


def per_sample(outputs: Array, targets: Array) -> Array:
    """Predicted and true class (N, 2), NaN if it doesn't count; for several answers of a sample
    `counted` (N, 3 C).
    """
    if targets.ndim > 1 or are_labels(outputs, targets):
        return counted(outputs, targets)
    logits, classes, counts = by_position(outputs, targets)
    rows: Array = np.concatenate([logits.argmax(axis=-1), classes], axis=1).astype(np.float64)
    rows[~counts[:, 0]] = np.nan
    return rows


def counted(outputs: Array, targets: Array) -> Array:
    """The hits, predictions and occurrences of each class in each sample (N, 3 C)."""
    if are_labels(outputs, targets):
        count, classes = len(targets), outputs.shape[1] if outputs.ndim > 1 else 1
        said, true = ((a > 0).reshape(count, classes, -1) for a in (outputs, targets))
        parts = [values.sum(axis=2) for values in (said & true, said, true)]
        return np.concatenate(parts, axis=1).astype(np.float64)
    logits, classes_true, counts = by_position(outputs, targets)
    predicted, classes = logits.argmax(axis=-1), logits.shape[-1]
    hit = counts & (predicted == classes_true)
    parts = [
        _occurrences(predicted, hit, classes),
        _occurrences(predicted, counts, classes),
        _occurrences(classes_true, counts, classes),
    ]
    return np.concatenate(parts, axis=1)


def columns(statistics: Array) -> Array:
    """The hits, predictions and occurrences of each class in each sample (N, 3 C)."""
    if statistics.shape[1] != 2:
        return statistics
    kept = statistics[~np.isnan(statistics).any(axis=1)].astype(np.int64)
    each = np.eye(int(kept.max(initial=0)) + 1, dtype=np.float32)
    predicted, true = each[kept[:, 0]], each[kept[:, 1]]
    return np.concatenate([predicted * true, predicted, true], axis=1)


def split(sums: Array) -> tuple[Array, Array, Array]:
    """Hits, predictions and occurrences of each class (..., C)."""
    hits, said, true = np.split(sums, 3, axis=-1)
    return hits, said, true


def _turned_wrong(columns: Array) -> Array:
    """The columns (N, 3 C) of samples whose hits became errors."""
    wrong = columns.copy()
    wrong[:, : columns.shape[1] // 3] = 0
    return wrong


def _all_right(columns: Array) -> Array:
    """Of which samples the hits are all that was said and all that is true (N,)."""
    hits, said, true = split(columns)
    return np.asarray(((hits == said) & (said == true)).all(axis=1))


#: What such columns say of answers.
ANSWERS = Answers(_turned_wrong, _all_right)


def _occurrences(classes: Array, chosen: Array, width: int) -> Array:
    """How often each class is among a sample's chosen positions (N, C)."""
    count = len(classes)
    rows, _ = np.nonzero(chosen)
    found = np.bincount(rows * width + classes[chosen], minlength=count * width)
    return found.reshape(count, width).astype(np.float64)
