"""Area under the ROC curve: of each class against the rest, or of each label, averaged.

Classes without both positive and negative samples don't count. It is the chance that a positive
sample has the larger score than a negative one, ties counting half (Mann and Whitney,
https://doi.org/10.1214/aoms/1177730491), so it equals `torchmetrics.functional.auroc` (which takes
the area of a class without positive samples for 0), and is fast enough to be resampled.
"""

from __future__ import annotations

import numpy as np

from .positions import Array, are_labels, by_position, probabilities


def per_sample(outputs: Array, targets: Array) -> Array:
    """Scores and truths of each class (N, 2 C); NaN if the sample doesn't count."""
    if are_labels(outputs, targets):
        if outputs.ndim > 2:
            raise ValueError("it takes labels (N, C), one of each class for a sample")
        pair = [
            values.reshape(len(targets), -1).astype(np.float64) for values in (outputs, targets)
        ]
        return np.concatenate(pair, axis=1)
    if targets.ndim != 1:
        raise ValueError("it takes one class for each sample: targets (N,)")
    found = by_position(outputs, targets)
    truths = np.eye(found.logits.shape[-1])[found.targets[:, 0]]
    rows: Array = np.concatenate([probabilities(found)[:, 0], truths], axis=1)
    rows[~found.counts[:, 0]] = np.nan
    return rows


def aggregate(statistics: Array) -> float:
    kept = statistics[~np.isnan(statistics).any(axis=1)]
    scores, truths = np.split(kept, 2, axis=1)
    areas = [_area(*column) for column in zip(scores.T, truths.T > 0, strict=True)]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else float("nan")


def _area(scores: Array, positive: Array) -> float | None:
    above, below = scores[positive], np.sort(scores[~positive])
    if not len(above) or not len(below):
        return None
    less = np.searchsorted(below, above, "left").sum()
    most = np.searchsorted(below, above, "right").sum()
    return float((less + most) / (2 * len(above) * len(below)))
