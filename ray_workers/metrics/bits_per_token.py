"""Mean negative log2-likelihood of each token's successor; tokens may be characters.

Outputs are logits (N, T, V), targets (N, T); every token that counts (not -100) counts the same.
"""

from __future__ import annotations

import numpy as np

from . import Array
from .positions import by_position, negative_log_likelihood, sums_and_counts
from .sums import MEAN_OF_SUMS


def per_sample(outputs: Array, targets: Array) -> Array:
    found = by_position(outputs, targets)
    return sums_and_counts(negative_log_likelihood(found) / np.log(2), found.counts)


aggregate = MEAN_OF_SUMS
