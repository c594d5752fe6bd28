"""The exponential of the mean negative log-likelihood of each token's successor.

Outputs are logits (N, T, V), targets (N, T); every token that counts (not -100) counts the same.
`torchmetrics.functional.text.perplexity`.
"""

from __future__ import annotations

import numpy as np

from .cross_entropy import per_sample as per_sample
from .positions import Array
from .sums import OfSums, ratio


def _perplexity(sums: Array, count: int) -> Array:
    found: Array = np.exp(np.minimum(ratio(sums[..., 0], sums[..., 1]), 700.0))
    return found


aggregate = OfSums(_perplexity)
