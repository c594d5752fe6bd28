"""Flips: samples that one model has right and another has wrong.

Two models of the same accuracy can be wrong on different samples: Dutta et al., Accuracy is Not All
You Need, https://arxiv.org/abs/2407.09141.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..specs.validate import FlipFacts
from .few_changes import wilson

Array = np.ndarray[Any, Any]
_SHOWN = 50  # samples


@dataclass(frozen=True)
class Flips:
    """Answers of a candidate beside those of the trained model.

    Attributes:
        broken: Indices of samples that only the trained model has right.
        repaired: Indices of samples that only the candidate has right.
        count: All samples that count.
    """

    broken: tuple[int, ...]
    repaired: tuple[int, ...]
    count: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test: how likely so uneven flips are if neither model is better.

        Q. McNemar, https://doi.org/10.1007/BF02295996; two-sided binomial test of the flips.
        """
        flipped = len(self.broken) + len(self.repaired)
        if flipped == 0:
            return 1.0
        fewer = min(len(self.broken), len(self.repaired))
        tail: float = sum(math.comb(flipped, k) for k in range(fewer + 1)) / 2**flipped
        return min(1.0, 2 * tail)

    def fact(self) -> FlipFacts:
        """The counts, and where some of the samples are, for a report."""
        return FlipFacts(
            broken=len(self.broken),
            repaired=len(self.repaired),
            count=self.count,
            p_value=self.p_value,
            broken_samples=self.broken[:_SHOWN],
            repaired_samples=self.repaired[:_SHOWN],
        )

    def metrics(self) -> dict[str, float]:
        """Rates with their 95 % intervals, and the p-value, under MLflow's names."""
        found = {"flips/p_value": self.p_value}
        both = len(self.broken) + len(self.repaired)
        for name, flipped in (("rate", both), ("wrong_rate", len(self.broken))):
            share = flipped / self.count
            low, high = wilson(share, self.count)
            found |= {
                f"flips/{name}": share, f"flips/{name}_low": low, f"flips/{name}_high": high,
            }  # fmt: skip
        return found


def flips(reference: Array, candidate: Array, higher_is_better: bool = True) -> Flips | None:
    """Compare answers that are right or wrong, sample by sample.

    Args:
        reference: Statistics of the trained model, (N, k); NaN: the sample doesn't count.
        candidate: Statistics of the candidate for the same samples, (N, k).
        higher_is_better: Whether 1 is right.

    Returns:
        None if a sample isn't just right or wrong: statistics other than one column of 0 and 1.
    """
    for statistics in (reference, candidate):
        if statistics.ndim != 2 or statistics.shape[1] != 1 or not len(statistics):
            return None
        if not np.isin(statistics[~np.isnan(statistics)], (0.0, 1.0)).all():
            return None
    counts = ~np.isnan(reference[:, 0]) & ~np.isnan(candidate[:, 0])
    if not counts.any():
        return None
    right = counts & (reference[:, 0] == higher_is_better)
    now = counts & (candidate[:, 0] == higher_is_better)
    return Flips(
        broken=tuple(int(i) for i in np.flatnonzero(right & ~now)),
        repaired=tuple(int(i) for i in np.flatnonzero(~right & now)),
        count=int(counts.sum()),
    )
