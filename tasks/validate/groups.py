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
from .tails import EVEN, Tails, largest, tails_of_largest

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
        """The worst group's quality, and the largest loss of quality of any group.

        Their intervals are those of the worst of all groups, whichever that is (`tails.py`); of
        many groups, those that look worst are considered.
        """
        worst = max(groups, key=self._badness)
        lost = max(groups, key=lambda group: group.drop)
        return {
            **with_bounds(
                "quality/worst_group",
                (worst.after, *self._bounds_of_worst(groups)),
            ),
            **_number("quality/worst_group_label", worst),
            **with_bounds(
                "quality/worst_group_drop",
                largest([self._drop(g, tails_of_largest(len(groups))) for g in _first(groups)]),
            ),
            **_number("quality/worst_group_drop_label", lost),
        }

    def table(self, groups: Sequence[Group]) -> list[GroupFact]:
        """What a report shows: the groups that lost most, the largest loss first."""
        shown = []
        for group in _first(groups):
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

    def _bounds_of_worst(self, groups: Sequence[Group]) -> tuple[float, float]:
        """The interval of the lowest quality of any group; of the highest, if lower is better."""
        tails, some = tails_of_largest(len(groups)), _first(groups, self._badness)
        if self.higher_is_better:
            tails = Tails(tails.above, tails.below)
        found = [quality_interval(self.candidate[g.rows], self.aggregate, tails) for g in some]
        if not self.higher_is_better:
            return largest(found)[1:]
        _, low, high = largest([(-value, -upper, -lower) for value, lower, upper in found])
        return -high, -low

    def _badness(self, group: Group) -> float:
        return -group.after if self.higher_is_better else group.after

    def _drop(self, group: Group, tails: Tails = EVEN) -> tuple[float, float, float]:
        return drop_interval(
            self.reference[group.rows],
            self.candidate[group.rows],
            self.aggregate,
            self.higher_is_better,
            tails,
        )


def _first(
    groups: Sequence[Group], badness: Callable[[Group], float] = lambda group: group.drop
) -> list[Group]:
    """The groups that look worst."""
    return sorted(groups, key=badness, reverse=True)[:MOST_SHOWN]


def _number(name: str, group: Group) -> dict[str, float]:
    """A label that is a number, as a metric."""
    if group.by != LABEL:
        return {}
    try:
        return {name: float(group.label)}
    except ValueError:
        return {}
