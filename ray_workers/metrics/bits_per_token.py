"""Mean negative log2-likelihood of each token's successor; tokens may be characters.

Outputs are logits (N, T, V), targets (N, T); every token counts the same.
"""

from __future__ import annotations

import numpy as np

from . import Array


def per_sample(outputs: Array, targets: Array) -> Array:
    logits = outputs.astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=-1))
    chosen = np.take_along_axis(shifted, targets[..., None].astype(np.int64), axis=-1)[..., 0]
    bits = ((log_sum - chosen) / np.log(2)).reshape(len(targets), -1)
    statistics: Array = np.stack([bits.sum(axis=1), np.full(len(bits), bits.shape[1])], axis=1)
    return statistics


def aggregate(statistics: Array) -> float:
    return float(statistics[:, 0].sum() / statistics[:, 1].sum())
