"""Spearman's rank correlation of predicted and true numbers, averaged over a sample's numbers.

A number that is the same in all samples has no ranks, and doesn't count.
`torchmetrics.functional.spearman_corrcoef`.
"""

from __future__ import annotations

import numpy as np

from .positions import Array, same_shape


def per_sample(outputs: Array, targets: Array) -> Array:
    return np.concatenate(same_shape(outputs, targets), axis=1)


def aggregate(statistics: Array) -> float:
    predicted, target = np.split(statistics, 2, axis=1)
    found = [rank_correlation(*pair) for pair in zip(predicted.T, target.T, strict=True)]
    known = [value for value in found if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def rank_correlation(one: Array, other: Array) -> float:
    """Of two columns (N,), ties having their mean rank; NaN if one is constant."""
    ranks = [_ranks(values) for values in (one, other)]
    first, second = (values - values.mean() for values in ranks)
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / scale if scale > 0 else float("nan")


def _ranks(values: Array) -> Array:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2)[place]
    return ranks
