"""Groups: for which groups a candidate is wrong, not only how often."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...recipe.errors import InputError
from ..specs.validate import GroupFact
from .interval import quality_interval

Array = np.ndarray[Any, Any]
_MOST_GROUPS = 1000
#: Groups that a report shows: those that lost most.
MOST_SHOWN = 50


@dataclass(frozen=True)
class Group:
    """A group of samples: its label, which samples, and the quality of both models."""

    label: Any
    rows: Array
    before: float
    after: float
    drop: float


def by_label(
    candidate: Array,
    reference: Array,
    targets: Array,
    aggregate: Callable[[Array], float],
    higher_is_better: bool,
) -> list[Group]:
    """The quality of each group, in the order of labels; none where the metric has no value.

    Args:
        candidate: Statistics of the candidate, (N, k).
        reference: Statistics of the trained model, (N, k).
        targets: The label of each sample, (N,).
        aggregate: From statistics to the metric.
        higher_is_better: Direction of the metric.

    Raises:
        InputError: The targets are not labels, or the metric has no value in any group.
    """
    sign = 1 if higher_is_better else -1
    found = []
    for label in _labels(targets):
        rows = targets == label
        before, after = aggregate(reference[rows]), aggregate(candidate[rows])
        if not (math.isnan(before) or math.isnan(after)):
            found.append(Group(label, rows, before, after, sign * (before - after)))
    if not found:
        raise InputError(
            "the metric has no value within a single label, so quality by label can't be measured",
            where="quality.groups",
            do="leave out quality.groups, or choose a metric such as accuracy",
        )
    return found


def group_metrics(groups: Sequence[Group], higher_is_better: bool) -> dict[str, float]:
    """The worst group's quality, and the largest loss of quality of any group."""
    sign = 1 if higher_is_better else -1
    worst = min(groups, key=lambda group: sign * group.after)
    lost = max(groups, key=lambda group: group.drop)
    return {
        "quality/worst_group": worst.after,
        "quality/worst_group_label": float(worst.label),
        "quality/worst_group_drop": lost.drop,
        "quality/worst_group_drop_label": float(lost.label),
    }


def group_table(
    groups: Sequence[Group], candidate: Array, aggregate: Callable[[Array], float]
) -> list[GroupFact]:
    """What a report shows: the groups that lost most, the largest loss first, with intervals.

    Args:
        groups: All groups.
        candidate: Statistics of the candidate, (N, k).
        aggregate: From statistics to the metric.
    """
    shown = []
    for group in sorted(groups, key=lambda group: -group.drop)[:MOST_SHOWN]:
        _, *bounds = quality_interval(candidate[group.rows], aggregate)
        low, high = (None if math.isnan(bound) else bound for bound in bounds)
        shown.append(
            GroupFact(
                group=str(group.label), count=int(group.rows.sum()), before=group.before,
                after=group.after, low=low, high=high, drop=group.drop,
            )
        )  # fmt: skip
    return shown


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
