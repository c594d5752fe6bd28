"""Mean absolute error."""

from __future__ import annotations

import numpy as np

from . import Array
from .positions import same_shape
from .sums import MEAN


def per_sample(outputs: Array, targets: Array) -> Array:
    predicted, target = same_shape(outputs, targets)
    statistics: Array = np.abs(predicted - target).mean(axis=1, keepdims=True)
    return statistics


aggregate = MEAN
