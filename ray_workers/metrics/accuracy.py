"""Share of samples whose largest output is the target's class (classes along axis 1)."""

from __future__ import annotations

import numpy as np

from . import Array


def per_sample(outputs: Array, targets: Array) -> Array:
    correct = outputs.argmax(axis=1) == targets
    statistics: Array = (
        correct.reshape(len(targets), -1).mean(axis=1, keepdims=True).astype(np.float64)
    )
    return statistics


def aggregate(statistics: Array) -> float:
    return float(statistics[:, 0].mean())
