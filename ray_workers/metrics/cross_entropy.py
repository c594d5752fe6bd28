"""Mean negative log-likelihood of the target's class in nats (classes along axis 1)."""

from __future__ import annotations

import numpy as np

from . import Array


def per_sample(outputs: Array, targets: Array) -> Array:
    logits = outputs.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    chosen = np.take_along_axis(shifted, targets[:, None].astype(np.int64), axis=1)[:, 0]
    statistics: Array = (log_sum - chosen).reshape(len(targets), -1).mean(axis=1, keepdims=True)
    return statistics


def aggregate(statistics: Array) -> float:
    return float(statistics[:, 0].mean())
