"""Agreement of a candidate's answers with the trained model's, whatever the truth is.

Accuracy can stay while answers and their probabilities move: Dutta et al., Accuracy is Not All You
Need, https://arxiv.org/abs/2407.09141.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ray_workers.metrics.positions import by_position, probabilities
from ...ray_workers.metrics.sums import MEAN_OF_SUMS
from .few_changes import wilson
from .interval import quality_interval, with_bounds

Array = np.ndarray[Any, Any]


def agreement_rows(reference: Array, candidate: Array, targets: Array) -> Array | None:
    """What a batch's outputs say of agreement.

    Args:
        reference: Logits of the trained model, (N, C, ...) or (N, T, C).
        candidate: Those of the candidate, of the same shape.
        targets: Class numbers; of positions with -100 nothing is compared.

    Returns:
        Of each sample the sum over its positions of the Kullback-Leibler divergence from the
        trained model's classes to the candidate's (nats), of those with the same answer, and their
        number, (N, 3); None if outputs and targets are not of classes.
    """
    if not np.issubdtype(targets.dtype, np.integer) or reference.shape == targets.shape:
        return None
    try:
        before, after = (by_position(outputs, targets) for outputs in (reference, candidate))
    except ValueError:
        return None
    if before.logits.shape[-1] < 2:
        return None
    p, q = probabilities(before), probabilities(after)
    tiny = np.finfo(np.float64).tiny
    apart = (p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny)))).sum(axis=-1)
    same = before.logits.argmax(axis=-1) == after.logits.argmax(axis=-1)
    counts = before.counts
    sums = [np.where(counts, values, 0).sum(axis=1) for values in (apart, same, counts)]
    return np.stack(sums, axis=1).astype(np.float64)


def agreement_metrics(rows: Array) -> dict[str, float]:
    """KL divergence and the share of the same answers, with 95 % intervals, by MLflow's names.

    Args:
        rows: Of `agreement_rows`, of all samples that were compared.
    """
    rows = rows[rows[:, 2] > 0]
    if not len(rows):
        return {}
    apart = quality_interval(rows[:, [0, 2]], MEAN_OF_SUMS)
    same = quality_interval(rows[:, [1, 2]], MEAN_OF_SUMS)
    if (rows[:, 2] == 1).all():  # one answer for each sample
        same = (same[0], *wilson(same[0], len(rows)))
    return with_bounds("flips/kl_divergence", apart) | with_bounds("flips/same_top", same)
