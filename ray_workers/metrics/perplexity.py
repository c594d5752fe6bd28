"""The exponential of the mean negative log-likelihood of each token's successor.

Outputs are logits (N, T, V), targets (N, T); every token that counts (not -100) counts the same.
`torchmetrics.functional.text.perplexity`.
"""

from __future__ import annotations

import math

from .cross_entropy import aggregate as mean_nats
from .cross_entropy import per_sample as per_sample
from .positions import Array


def aggregate(statistics: Array) -> float:
    return math.exp(min(mean_nats(statistics), 700.0))
