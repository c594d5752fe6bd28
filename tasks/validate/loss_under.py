"""How much more a candidate loses by corruptions than the trained model, paired by sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ray_workers.metrics.sums import OfSums
from ..specs.robustness import UnderCorruption
from .bootstrap import bootstrap_of
from .corruptions import Corruption
from .interval import counting, is_share
from .tails import EVEN, Tails, largest, tails_of_largest

Array = np.ndarray[Any, Any]
Bounded = tuple[float, float, float]
#: Corruptions of which an interval is made, where it takes long.
_WORST = 3


@dataclass(frozen=True)
class Pair:
    """Statistics of the trained model and of a candidate on the same samples, each (N, k)."""

    trained: Array
    candidate: Array


@dataclass(frozen=True)
class LossUnder:
    """Losses by corruptions.

    Attributes:
        aggregate: From statistics to the metric.
        higher_is_better: Direction of the metric.
        clean: The samples as they are.
        corrupted: The same samples under each corruption; samples that don't count in one of them
            are left out of all.
    """

    aggregate: Callable[[Array], float]
    higher_is_better: bool
    clean: Pair
    corrupted: dict[Corruption, Pair]

    @classmethod
    def of(
        cls,
        aggregate: Callable[[Array], float],
        higher_is_better: bool,
        clean: Pair,
        corrupted: dict[Corruption, Pair],
    ) -> LossUnder:
        """Without the samples that don't count."""
        every = (clean, *corrupted.values())
        counts = np.all(
            [counting(rows) for p in every for rows in (p.trained, p.candidate)], axis=0
        )

        def kept(pair: Pair) -> Pair:
            return Pair(pair.trained[counts], pair.candidate[counts])

        return cls(
            aggregate,
            higher_is_better,
            kept(clean),
            {how: kept(pair) for how, pair in corrupted.items()},
        )

    def conditions(self) -> tuple[UnderCorruption, ...]:
        """Quality and loss under each corruption."""
        return tuple(self._condition(how) for how in self.corrupted)

    def _condition(self, how: Corruption) -> UnderCorruption:
        pair = self.corrupted[how]
        value, *bounds = self.mean([how], bounds=self.is_quick)
        low, high = (None if math.isnan(bound) else bound for bound in bounds)
        return UnderCorruption(
            corruption=how.name,
            strength=how.strength,
            before=self.aggregate(pair.trained),
            after=self.aggregate(pair.candidate),
            drop=value,
            low=low,
            high=high,
        )

    def worst(self) -> Bounded:
        """The largest loss under any corruption with its 95 % interval, which holds whichever it
        is; where intervals take long, those of the three that look worst make it up.
        """
        alone = {how: self.mean([how], bounds=False)[0] for how in self.corrupted}
        some = sorted(alone, key=lambda how: -alone[how])[: None if self.is_quick else _WORST]
        tails = tails_of_largest(len(alone))
        return largest([self.mean([how], tails=tails) for how in some])

    def mean(self, some: Sequence[Corruption], bounds: bool = True, tails: Tails = EVEN) -> Bounded:
        """The mean over corruptions of what the candidate loses more, with its 95 % interval.

        Args:
            some: The corruptions.
            bounds: Whether the interval is asked for; without, its bounds are NaN.
            tails: Of another interval.
        """
        chosen = [self.corrupted[how] for how in some]
        sign = 1 if self.higher_is_better else -1
        trained = (self.clean.trained, *(pair.trained for pair in chosen))
        candidate = (self.clean.candidate, *(pair.candidate for pair in chosen))
        if not len(trained[0]):
            return math.nan, math.nan, math.nan

        def more(values: Array) -> Array:
            of_trained, of_candidate = np.split(values, 2)
            lost = [part[0] - part[1:].mean(axis=0) for part in (of_trained, of_candidate)]
            return np.asarray(sign * (lost[1] - lost[0]))

        if self._is_share:
            single = more(np.array([rows[:, 0] for rows in (*trained, *candidate)]))
            return (
                float(single.mean()),
                *(_of_shares(single, tails) if bounds else (math.nan, math.nan)),
            )
        value = float(more(np.array([self.aggregate(rows) for rows in (*trained, *candidate)])))
        if not bounds:
            return value, math.nan, math.nan
        low, high = bootstrap_of((*trained, *candidate), self.aggregate, more, tails)
        return value, min(low, value), max(high, value)

    @property
    def _is_share(self) -> bool:
        every = (self.clean, *self.corrupted.values())
        return all(
            is_share(rows, self.aggregate) for p in every for rows in (p.trained, p.candidate)
        )

    @property
    def is_quick(self) -> bool:
        """Whether an interval is quick: of shares, and of what follows from sums."""
        return isinstance(self.aggregate, OfSums) or self._is_share


def _of_shares(differences: Array, tails: Tails) -> tuple[float, float]:
    """The interval of Bonett and Price (https://doi.org/10.3102/1076998611411915), for differences
    of 1 and -1 and of what lies between and beyond: one of each is added to those of the samples.
    """
    padded = np.append(differences, (1.0, -1.0))
    error, middle = math.sqrt(padded.var() / len(padded)), float(padded.mean())
    below, above = tails.deviations
    return middle - below * error, middle + above * error
