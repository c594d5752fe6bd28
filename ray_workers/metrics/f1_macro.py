"""F1 of each class, averaged over the classes that occur (targets are classes, (N,))."""

from __future__ import annotations

import numpy as np

from . import Array


def per_sample(outputs: Array, targets: Array) -> Array:
    return np.stack([outputs.argmax(axis=1), targets], axis=1).astype(np.float64)


def aggregate(statistics: Array) -> float:
    predicted, target = statistics[:, 0], statistics[:, 1]
    scores = []
    for label in np.unique(statistics):
        hit = float(np.sum((predicted == label) & (target == label)))
        scores.append(2 * hit / float(np.sum(predicted == label) + np.sum(target == label)))
    return float(np.mean(scores))
