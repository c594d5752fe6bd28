"""Whether two kinds of embeddings agree on which pairs of samples are alike.

Spearman's rank correlation between the cosines of pairs of outputs and those of the same pairs of
targets, so the two may have different widths and units. Each sample is in pairs with the 16 that
follow it in an order that only depends on their values; a sample is in no pair with itself, also
where resampling repeats it.
"""

from __future__ import annotations

import numpy as np

from .positions import Array, vectors
from .spearman import rank_correlation

_NEXT = 16


def per_sample(outputs: Array, targets: Array) -> Array:
    """The width of outputs, an output, and a target, both of length 1 (N, 1 + D + E)."""
    pair = [
        values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-30)
        for values in vectors(outputs, targets)
    ]
    width = np.full((len(outputs), 1), float(pair[0].shape[1]))
    return np.concatenate([width, *pair], axis=1)


def aggregate(statistics: Array) -> float:
    width = 1 + int(statistics[0, 0])
    digits = np.abs(statistics @ np.cos(np.arange(statistics.shape[1]))) * 1e6
    ordered = statistics[np.argsort(digits % 1, kind="stable")]
    outputs, targets = ordered[:, 1:width], ordered[:, width:]
    cosines: list[tuple[Array, Array]] = []
    for step in range(1, min(_NEXT, len(ordered) - 1) + 1):
        differ = (ordered[step:] != ordered[:-step]).any(axis=1)
        cosines.append(
            (
                (outputs[step:] * outputs[:-step]).sum(axis=1)[differ],
                (targets[step:] * targets[:-step]).sum(axis=1)[differ],
            )
        )
    if not cosines:
        return float("nan")
    return rank_correlation(*(np.concatenate(side) for side in zip(*cosines, strict=True)))
