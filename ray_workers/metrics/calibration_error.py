"""Expected calibration error: how far confidence is from the share of right answers, in 15 bins.

Guo et al., https://arxiv.org/abs/1706.04599; `torchmetrics.functional.calibration_error`, norm l1.
Of one logit against a label, confidence is the probability of 1, and right is a 1.

Noise alone makes it positive, by more the fewer samples there are. So it has no interval: those by
resampling held a drop in only 143 of 200 tries with 200 samples, and in 167 with 1,000.
"""

from __future__ import annotations

import numpy as np

from .positions import Array, are_labels, by_position, probabilities, sigmoid
from .sums import OfSums, ratio

_BINS = 15


def per_sample(outputs: Array, targets: Array) -> Array:
    """Of each bin the sum of confidences, of right answers, and their number (N, 45)."""
    if are_labels(outputs, targets):
        if outputs[:1].size > 1:
            raise ValueError("of several labels it judges none: it takes one logit and label")
        confidence, right = (a.reshape(-1, 1) for a in (sigmoid(outputs), targets > 0))
        counts = np.ones_like(right)
    else:
        found = by_position(outputs, targets)
        shares, counts = probabilities(found), found.counts
        confidence, right = shares.max(axis=-1), shares.argmax(axis=-1) == found.targets
    # As torch.bucketize(confidence, linspace(0, 1, 16), right=True) - 1.
    bins = np.searchsorted(np.linspace(0, 1, _BINS + 1), confidence, "right") - 1
    bins = np.where(counts, np.clip(bins, 0, _BINS - 1), _BINS)
    return np.concatenate(
        [
            np.stack([np.where(bins == b, values, 0.0).sum(axis=1) for b in range(_BINS)], axis=1)
            for values in (confidence, right, np.ones_like(confidence))
        ],
        axis=1,
    )


def _error(sums: Array, count: int) -> Array:
    confidence, right, counts = np.split(sums, 3, axis=-1)
    return ratio(np.abs(confidence - right).sum(axis=-1), counts.sum(axis=-1))


aggregate = OfSums(_error, has_interval=False)
