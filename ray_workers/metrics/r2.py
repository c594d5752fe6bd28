"""Coefficient of determination: 1 is perfect, 0 is no better than the mean."""

from __future__ import annotations

import numpy as np

from . import Array


def per_sample(outputs: Array, targets: Array) -> Array:
    predicted = outputs.astype(np.float64).reshape(len(targets), -1)
    target = targets.reshape(len(targets), -1)
    if predicted.shape != target.shape:
        raise ValueError(f"outputs {outputs.shape} and targets {targets.shape} differ in shape")
    return np.concatenate([predicted, target], axis=1)


def aggregate(statistics: Array) -> float:
    width = statistics.shape[1] // 2
    predicted, target = statistics[:, :width], statistics[:, width:]
    residual = float(np.square(predicted - target).sum())
    total = float(np.square(target - target.mean(axis=0)).sum())
    return 1 - residual / total if total > 0 else float(residual == 0)
