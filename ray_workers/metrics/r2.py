"""Coefficient of determination: 1 is perfect, 0 is no better than the mean."""

from __future__ import annotations

import numpy as np

from . import Array
from .positions import same_shape
from .sums import OfSums, ratio


def per_sample(outputs: Array, targets: Array) -> Array:
    return np.concatenate(same_shape(outputs, targets), axis=1)


def _squares(statistics: Array) -> Array:
    """Each sample's squared error, squared distance from the mean, and distance (N, 2 + k)."""
    predicted, target = np.split(statistics, 2, axis=1)
    apart = target - target.mean(axis=0)
    error, own = np.square(predicted - target).sum(axis=1), np.square(apart).sum(axis=1)
    return np.concatenate([error[:, None], own[:, None], apart], axis=1)


def _explained(sums: Array, count: int) -> Array:
    total = sums[..., 1] - np.square(sums[..., 2:]).sum(axis=-1) / count
    varies = total > 1e-12 * np.abs(sums[..., 1])
    return np.where(varies, 1 - ratio(sums[..., 0], np.where(varies, total, 0)), sums[..., 0] == 0)


aggregate = OfSums(_explained, _squares)
