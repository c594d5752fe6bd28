"""Root of the mean squared error."""

from __future__ import annotations

import math

from .mse import aggregate as mean_square
from .mse import per_sample as per_sample
from .positions import Array


def aggregate(statistics: Array) -> float:
    return math.sqrt(mean_square(statistics))
