"""Mean negative log-likelihood of the target's class in nats, over what counts (not -100).

`positions.class_axis` says along which axis classes are.
"""

from __future__ import annotations

from . import Array
from .positions import by_position, negative_log_likelihood, sums_and_counts
from .sums import MEAN_OF_SUMS


def per_sample(outputs: Array, targets: Array) -> Array:
    found = by_position(outputs, targets)
    return sums_and_counts(negative_log_likelihood(found), found.counts)


aggregate = MEAN_OF_SUMS
