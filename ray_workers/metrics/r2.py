"""Coefficient of determination: 1 is perfect, 0 is no better than the mean."""

from __future__ import annotations

import numpy as np

from . import Array
from .positions import same_shape


def per_sample(outputs: Array, targets: Array) -> Array:
    return np.concatenate(same_shape(outputs, targets), axis=1)


def aggregate(statistics: Array) -> float:
    width = statistics.shape[1] // 2
    predicted, target = statistics[:, :width], statistics[:, width:]
    residual = float(np.square(predicted - target).sum())
    total = float(np.square(target - target.mean(axis=0)).sum())
    return 1 - residual / total if total > 0 else float(residual == 0)
