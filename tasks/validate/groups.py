"""Groups: for which groups a candidate is wrong, not only how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...recipe.errors import InputError
from ..specs.validate import GroupFact
from .interval import quality_interval

Array = np.ndarray[Any, Any]
_MOST_GROUPS = 1000
#: Groups that a report shows: those that lost most.
MOST_SHOWN = 50


def group_table(
    candidate: Array,
    reference: Array,
    targets: Array,
    aggregate: Callable[[Array], float],
    higher_is_better: bool,
) -> list[GroupFact]:
    """The quality of each group before and after, the largest loss first.

    Args:
        candidate: Statistics of the candidate, (N, k).
        reference: Statistics of the trained model, (N, k).
        targets: The label of each sample, (N,).
        aggregate: From statistics to the metric.
        higher_is_better: Direction of the metric.

    Raises:
        InputError: The targets are not labels.
    """
    sign = 1 if higher_is_better else -1
    found = []
    for label in _labels(targets):
        rows = targets == label
        value, low, high = quality_interval(candidate[rows], aggregate)
        before = aggregate(reference[rows])
        found.append(
            GroupFact(
                group=str(label), count=int(rows.sum()), before=before, after=value,
                low=low, high=high, drop=sign * (before - value),
            )
        )  # fmt: skip
    return sorted(found, key=lambda group: -group.drop)[:MOST_SHOWN]


def group_quality(
    candidate: Array,
    reference: Array,
    targets: Array,
    aggregate: Callable[[Array], float],
    higher_is_better: bool,
) -> dict[str, float]:
    """The worst group's quality, and the largest loss of quality of any group.

    Args:
        candidate: Statistics of the candidate, (N, k).
        reference: Statistics of the trained model, (N, k).
        targets: The label of each sample, (N,).
        aggregate: From statistics to the metric.
        higher_is_better: Direction of the metric.

    Raises:
        InputError: The targets are not labels.
    """
    labels = _labels(targets)
    sign = 1 if higher_is_better else -1
    values, drops = [], []
    for label in labels:
        rows = targets == label
        values.append(aggregate(candidate[rows]))
        drops.append(sign * (aggregate(reference[rows]) - values[-1]))
    return {
        "quality/worst_group": min(values, key=lambda value: sign * value),
        "quality/worst_group_label": float(labels[int(np.argmin(sign * np.asarray(values)))]),
        "quality/worst_group_drop": max(drops),
        "quality/worst_group_drop_label": float(labels[int(np.argmax(drops))]),
    }


def _labels(targets: Array) -> Array:
    """The labels that occur.

    Raises:
        InputError: The targets are not labels.
    """
    if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
        raise InputError(
            f"groups: label needs one integer target per sample, not {targets.dtype} of shape "
            f"{targets.shape[1:]}",
            where="quality.groups",
        )
    labels = np.unique(targets)
    if len(labels) > _MOST_GROUPS:
        raise InputError(
            f"there are {len(labels)} different labels, at most {_MOST_GROUPS} are supported",
            where="quality.groups",
            do="leave out quality.groups",
        )
    return labels
