"""Root of the mean squared error."""

from __future__ import annotations

import numpy as np

from . import Array


def per_sample(outputs: Array, targets: Array) -> Array:
    error = np.square(outputs.astype(np.float64).reshape(targets.shape) - targets)
    statistics: Array = error.reshape(len(targets), -1).mean(axis=1, keepdims=True)
    return statistics


def aggregate(statistics: Array) -> float:
    return float(np.sqrt(statistics[:, 0].mean()))
