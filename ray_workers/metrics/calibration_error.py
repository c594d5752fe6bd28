"""Expected calibration error: how far confidence is from the share of right answers, in 15 bins.

Guo et al., https://arxiv.org/abs/1706.04599; `torchmetrics.functional.calibration_error`, norm l1.
Of one logit against a label, confidence is the probability of 1, and right is a 1.
"""

from __future__ import annotations

import numpy as np

from .positions import Array, are_labels, by_position, probabilities, sigmoid

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


def aggregate(statistics: Array) -> float:
    confidence, right, counts = np.split(statistics.sum(axis=0), 3)
    total = counts.sum()
    return float(np.abs(confidence - right).sum() / total) if total else float("nan")
