"""Mean cosine of the angle between predicted and true vectors, such as embeddings.

A vector of length 0 has the cosine 0. `torchmetrics.functional.cosine_similarity`, reduction mean.
"""

from __future__ import annotations

import numpy as np

from .positions import Array, vectors
from .sums import MEAN


def per_sample(outputs: Array, targets: Array) -> Array:
    predicted, true = vectors(outputs, targets)
    if predicted.shape != true.shape:
        raise ValueError(f"outputs {outputs.shape} and targets {targets.shape} differ in shape")
    product = (predicted * true).sum(axis=1)
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(true, axis=1)
    statistics: Array = (product / np.where(lengths > 0, lengths, 1))[:, None]
    return statistics


aggregate = MEAN
