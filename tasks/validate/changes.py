"""What compression changed for whom: flips, and quality by group, paired on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ray_workers.data.groups import Grouping
from ..specs.validate import ValidateFacts
from .flips import flips
from .groups import Judged

Array = np.ndarray[Any, Any]


def changes(
    judged: Judged, groupings: Sequence[Grouping] = (), with_flips: bool = True
) -> tuple[dict[str, float], ValidateFacts]:
    """Compare a candidate's answers with those of the trained model.

    Args:
        judged: Statistics of both for the same samples; NaN: the sample doesn't count.
        groupings: The groups of the samples, in several ways at once.
        with_flips: Whether flips are looked at.

    Returns:
        Metrics under MLflow's names, and what a report shows.

    Raises:
        InputError: The metric has no value in any group.
    """
    candidate, reference = judged.candidate, judged.reference
    flipped = flips(reference, candidate, judged.higher_is_better) if with_flips else None
    metrics = {} if flipped is None else flipped.metrics()
    facts = ValidateFacts(flips=None if flipped is None else flipped.fact())
    counts = np.asarray(~(np.isnan(candidate).any(axis=1) | np.isnan(reference).any(axis=1)))
    if groupings and counts.any():
        counted = Judged(
            candidate[counts], reference[counts], judged.aggregate, judged.higher_is_better
        )
        groups = [group for one in groupings for group in counted.groups(one, counts)]
        metrics |= counted.metrics(groups)
        facts = facts.model_copy(update={"groups": tuple(counted.table(groups))})
    return metrics, facts
