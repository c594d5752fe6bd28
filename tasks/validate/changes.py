"""What compression changed for whom: flips, and quality by group, paired on the same samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..specs.validate import ValidateFacts
from .flips import flips
from .groups import by_label, group_metrics, group_table

Array = np.ndarray[Any, Any]


def changes(
    candidate: Array,
    reference: Array,
    targets: Array | None,
    aggregate: Callable[[Array], float],
    higher_is_better: bool,
    with_flips: bool = True,
) -> tuple[dict[str, float], ValidateFacts]:
    """Compare a candidate's answers with those of the trained model.

    Args:
        candidate: Statistics of the candidate, (N, k); NaN: the sample doesn't count.
        reference: Statistics of the trained model for the same samples, (N, k).
        targets: The label of each sample, (N,), if quality by group is asked for.
        aggregate: From statistics to the metric.
        higher_is_better: Direction of the metric.
        with_flips: Whether flips are looked at.

    Returns:
        Metrics under MLflow's names, and what a report shows.

    Raises:
        InputError: The targets are not labels.
    """
    flipped = flips(reference, candidate, higher_is_better) if with_flips else None
    metrics = {} if flipped is None else flipped.metrics()
    facts = ValidateFacts(flips=None if flipped is None else flipped.fact())
    counts = ~(np.isnan(candidate).any(axis=1) | np.isnan(reference).any(axis=1))
    if targets is not None and counts.any():
        candidate = candidate[counts]
        groups = by_label(
            candidate, reference[counts], targets[counts], aggregate, higher_is_better
        )
        metrics |= group_metrics(groups, higher_is_better)
        shown = tuple(group_table(groups, candidate, aggregate))
        facts = facts.model_copy(update={"groups": shown})
    return metrics, facts
