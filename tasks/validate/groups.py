"""Groups: for which groups a candidate is wrong, not only how often."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ray_workers.data.groups import LABEL, Grouping
from ...recipe.errors import InputError
from ..specs.validate import GroupFact
from .interval import drop_interval, quality_interval, with_bounds

Array = np.ndarray[Any, Any]
#: Groups that a report shows: those that lost most.
MOST_SHOWN = 50


@dataclass(frozen=True)
class Group:
    """A group of samples: which samples, and the quality of both models.

    Attributes:
        by: What the samples are grouped by.
        label: Its name.
        rows: Which samples are in it (N,).
        before: Quality of the trained model.
        after: Quality of the candidate.
        drop: Loss of quality.
    """

    by: str
    label: str
    rows: Array
    before: float
    after: float
    drop: float


@dataclass(frozen=True)
class Judged:
    """Statistics of both models on the same samples.

    Attributes:
        candidate: Of the candidate, (N, k).
        reference: Of the trained model, (N, k).
        aggregate: From statistics to the metric.
        higher_is_better: Direction of the metric.
    """

    candidate: Array
    reference: Array
    aggregate: Callable[[Array], float]
    higher_is_better: bool

    def groups(self, grouping: Grouping, counts: Array) -> list[Group]:
        """The quality of each group, in order; none where the metric has no value.

        Args:
            grouping: The groups of all samples of the test split.
            counts: Which of these are judged.

        Raises:
            InputError: The metric has no value in any group.
        """
        sign = 1 if self.higher_is_better else -1
        members = np.asarray(grouping.members)[counts]
        found = []
        for place, label in enumerate(grouping.groups):
            rows = members == place
            if not rows.any():
                continue
            before, after = (
                self.aggregate(rows_of[rows]) for rows_of in (self.reference, self.candidate)
            )
            if not (math.isnan(before) or math.isnan(after)):
                drop = sign * (before - after)
                found.append(Group(grouping.by, label, rows, before, after, drop))
        if not found:
            raise InputError(
                f"the metric has no value within a single {grouping.by}, so quality by "
                f"{grouping.by} can't be measured",
                where="quality.groups",
                do="leave out quality.groups, or choose a metric such as accuracy",
            )
        return found

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """The worst group's quality, and the largest loss of quality of any group."""
        sign = 1 if self.higher_is_better else -1
        worst = min(groups, key=lambda group: sign * group.after)
        lost = max(groups, key=lambda group: group.drop)
        return {
            **with_bounds(
                "quality/worst_group",
                quality_interval(self.candidate[worst.rows], self.aggregate),
            ),
            **_number("quality/worst_group_label", worst),
            **with_bounds("quality/worst_group_drop", self._drop(lost)),
            **_number("quality/worst_group_drop_label", lost),
        }

    def table(self, groups: Sequence[Group]) -> list[GroupFact]:
        """What a report shows: the groups that lost most, the largest loss first."""
        shown = []
        for group in sorted(groups, key=lambda group: -group.drop)[:MOST_SHOWN]:
            _, *bounds = quality_interval(self.candidate[group.rows], self.aggregate)
            low, high, drop_low, drop_high = (
                None if math.isnan(bound) else bound for bound in (*bounds, *self._drop(group)[1:])
            )
            shown.append(
                GroupFact(
                    by=group.by, group=group.label, count=int(group.rows.sum()),
                    before=group.before, after=group.after, low=low, high=high, drop=group.drop,
                    drop_low=drop_low, drop_high=drop_high,
                )
            )  # fmt: skip
        return shown

    def _drop(self, group: Group) -> tuple[float, float, float]:
        return drop_interval(
            self.reference[group.rows],
            self.candidate[group.rows],
            self.aggregate,
            self.higher_is_better,
        )


def _number(name: str, group: Group) -> dict[str, float]:
    """A label that is a number, as a metric."""
    if group.by != LABEL:
        return {}
    try:
        return {name: float(group.label)}
    except ValueError:
        return {}
