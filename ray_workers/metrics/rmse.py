"""Root of the mean squared error."""

from __future__ import annotations

import numpy as np

from .mse import per_sample as per_sample
from .positions import Array
from .sums import OfSums


def _root(sums: Array, count: int) -> Array:
    found: Array = np.sqrt(sums[..., 0] / count)
    return found


aggregate = OfSums(_root)
