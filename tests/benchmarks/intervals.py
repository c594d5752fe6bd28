"""Do 95 % intervals hold the truth in 93 to 97 % of tries?

    python tests/benchmarks/intervals.py [TRIES] [NAME...] [--minutes MINUTES] [--processes N]

For each kind of metric a test split is drawn anew in each of 1,000 tries, with the outputs of a
trained model and of a candidate. The intervals of quality and drop must hold the values for the
population, which are those of a very large split; that of a latency's ratio, the ratio that the
durations were drawn with. Metrics without an interval (calibration error) are left out.

In a limited time each kind gets the tries that fit into its share of it. A kind counts as outside if
its share of tries is by more than twice the standard error of 95 % in so many tries.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.recipe.metrics import METRICS
from prefect_hone.tasks.benchmark.statistics import ratio
from prefect_hone.tasks.validate.interval import drop_interval, quality_interval

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
#: Targets, outputs of the trained model, and of the candidate, for so many samples.
Draw = Callable[[Rng, int], tuple[Array, Array, Array]]
ASKED = (0.93, 0.97)
_POPULATION = 400_000


def classes(rng: Rng, count: int, sharp: float = 2.0, noise: float = 0.5, of: int = 5) -> Any:
    """Logits of classes, of which some are rare; the candidate's are the same with noise."""
    rarity = np.linspace(1, 3, of)
    targets = rng.choice(of, count, p=rarity / rarity.sum())
    logits = sharp * np.eye(of)[targets] + rng.normal(size=(count, of))
    return targets, logits, logits + noise * rng.normal(size=(count, of))


def tokens(rng: Rng, count: int) -> Any:
    """Texts of 20 tokens, of which a part doesn't count; some texts are harder."""
    targets = rng.integers(0, 6, (count, 20))
    ease = rng.gamma(4, 0.4, (count, 1, 1))
    logits = ease * np.eye(6)[targets] + rng.normal(size=(count, 20, 6))
    noisy = logits + 0.5 * rng.normal(size=logits.shape)
    return np.where(rng.random((count, 20)) < 0.3, -100, targets), logits, noisy


def numbers(rng: Rng, count: int) -> Any:
    targets = rng.normal(size=(count, 1)) * 2
    outputs = targets + rng.normal(size=(count, 1))
    return targets, outputs, outputs + 0.5 * rng.normal(size=(count, 1))


def skewed(rng: Rng, count: int) -> Any:
    """Errors with long tails: few samples make most of the mean squared error."""
    targets = rng.normal(size=(count, 1)) * 2
    outputs = targets + rng.standard_t(6, (count, 1))
    return targets, outputs, outputs + 0.5 * rng.normal(size=(count, 1))


def labels(rng: Rng, count: int) -> Any:
    targets = (rng.random((count, 4)) < 0.3).astype(np.float64)
    outputs = 2 * targets - 1 + rng.normal(size=(count, 4))
    return targets, outputs, outputs + 0.5 * rng.normal(size=(count, 4))


def vectors(rng: Rng, count: int) -> Any:
    targets = rng.normal(size=(count, 8)) * np.linspace(0.3, 2, 8)
    outputs = targets + 0.5 * rng.normal(size=(count, 8))
    return targets, outputs, outputs + 0.4 * rng.normal(size=(count, 8))


def masks(rng: Rng, count: int) -> Any:
    """Pictures of 6 x 6 pixels of 3 classes; some are harder."""
    targets = rng.choice(3, (count, 6, 6), p=[0.6, 0.3, 0.1])
    ease = rng.gamma(4, 0.5, (count, 1, 1, 1))
    logits = ease * np.moveaxis(np.eye(3)[targets], -1, 1) + rng.normal(size=(count, 3, 6, 6))
    return targets, logits, logits + 0.5 * rng.normal(size=logits.shape)


def boxes(rng: Rng, count: int) -> Any:
    """Up to 3 boxes in a picture, found at a wrong place, missed, or invented."""
    corner = rng.random((count, 3, 2)) * 60
    side = np.full((count, 3, 2), 20.0)
    number = rng.integers(0, 2, (count, 3, 1))
    targets = np.concatenate([corner, corner + side, number], axis=2)
    targets[rng.random((count, 3)) < 0.3, 4] = -100
    found = []
    for shift in (2.5, 4.0):
        moved = corner + shift * rng.normal(size=corner.shape)
        score = np.where(targets[..., 4:] >= 0, 0.6, 0.3) + 0.3 * rng.random((count, 3, 1))
        found.append(np.concatenate([moved, moved + side, score, number], axis=2))
    return targets, *found


@dataclass(frozen=True)
class Kind:
    """A metric and what it judges."""

    metric: str
    draw: Draw
    count: int = 200
    told: str = ""
    population: int = _POPULATION

    @property
    def name(self) -> str:
        return f"{self.metric}{self.told}, {self.count}"


KINDS = (
    Kind("accuracy", classes),
    Kind("accuracy", functools.partial(classes, sharp=5.0, noise=1.0), told=" near 1"),
    Kind("accuracy", tokens, 60, " of tokens", 40_000),
    Kind("accuracy", labels, told=" of labels"),
    Kind("balanced_accuracy", classes),
    Kind("top3_accuracy", functools.partial(classes, sharp=1.0)),
    Kind("f1_macro", classes),
    Kind("f1_macro", labels, told=" of labels"),
    Kind("f1_macro", functools.partial(classes, sharp=5.0, noise=0.3), told=" hardly changed"),
    Kind("f1_weighted", classes),
    Kind("f1_micro", labels, told=" of labels"),
    Kind("auroc", classes, population=200_000),
    Kind("auroc", labels, told=" of labels", population=200_000),
    Kind("cross_entropy", classes),
    Kind("bits_per_token", tokens, 60, population=40_000),
    Kind("perplexity", tokens, 60, population=40_000),
    Kind("mae", numbers, 100),
    Kind("mse", numbers, 100),
    Kind("rmse", numbers, 100),
    Kind("rmse", skewed, 200, " of long tails"),
    Kind("r2", numbers, 100),
    Kind("spearman", numbers, 100),
    Kind("cosine", vectors, 100),
    Kind("rank_agreement", vectors, 100, population=100_000),
    Kind("iou", masks, 60, population=40_000),
    Kind("dice", masks, 60, population=40_000),
    Kind("mean_average_precision", boxes, 100, population=20_000),
    Kind("mean_average_precision_50", boxes, 100, population=20_000),
)


def rows(kind: Kind, rng: Rng, count: int) -> tuple[Array, Array]:
    """Statistics of the trained model and of the candidate."""
    targets, *outputs = kind.draw(rng, count)
    judge = metric(kind.metric)
    one, other = (judge.per_sample(values.astype(np.float32), targets) for values in outputs)
    return one, other


def coverage(kind: Kind, tries: int, seconds: float = float("inf")) -> tuple[int, float, float]:
    """How many tries were made (at least 20), and the share of them whose interval holds the
    quality, and the drop.
    """
    end = time.monotonic() + seconds
    aggregate = metric(kind.metric).aggregate
    rises = METRICS[kind.metric].higher_is_better
    before, after = (aggregate(r) for r in rows(kind, np.random.default_rng(1), kind.population))
    drop = (before - after) * (1 if rises else -1)
    held = np.zeros((tries, 2), bool)
    for index in range(tries):
        one, other = rows(kind, np.random.default_rng(1000 + index), kind.count)
        _, low, high = quality_interval(other, aggregate)
        _, least, most = drop_interval(one, other, aggregate, rises)
        held[index] = low <= after <= high, least <= drop <= most
        if index >= 19 and time.monotonic() > end:
            break
    quality, lost = held[: index + 1].mean(axis=0)
    return index + 1, float(quality), float(lost)


def ratio_coverage(tries: int, launches: int = 4, per_launch: int = 10) -> float:
    """The share of tries whose interval holds the true ratio of two candidates' durations.

    Rounds are noisy for both alike, and each launch of each is a little faster or slower.
    """
    held, true = 0, 1.1
    for index in range(tries):
        rng = np.random.default_rng(index)
        noise = np.exp(0.1 * rng.normal(size=(launches, per_launch)))
        one, other = (
            base * noise * np.exp(0.01 * rng.normal(size=(launches, 1)))
            * np.exp(0.02 * rng.normal(size=(launches, per_launch)))
            for base in (true, 1.0)
        )  # fmt: skip
        _, low, high = ratio(one.tolist(), other.tolist())
        held += low <= true <= high
    return held / tries


def is_outside(share: float, tries: int) -> bool:
    """Whether a share is not within what is asked, by more than chance explains."""
    chance = 2 * (0.95 * 0.05 / tries) ** 0.5 if tries < 1000 else 0.0
    return not ASKED[0] - chance <= share <= ASKED[1] + chance


def main(tries: int, names: list[str], minutes: float | None, workers: int) -> int:
    kinds = [kind for kind in KINDS if not names or kind.metric in names]
    seconds = float("inf") if minutes is None else 60 * minutes * workers / len(kinds)
    print(f"at most {tries} tries each\n{'metric, samples':40s}  tries quality   drop")
    outside = 0
    with ProcessPoolExecutor(workers) as pool:
        work = functools.partial(coverage, tries=tries, seconds=seconds)
        for kind, (made, *found) in zip(kinds, pool.map(work, kinds), strict=True):
            marks = ["!" if is_outside(share, made) else "" for share in found]
            outside += len("".join(marks))
            told = " ".join(f"{s:7.3f}{m:1s}" for s, m in zip(found, marks, strict=True))
            print(f"{kind.name:40s}{made:7d}{told}", flush=True)
    if not names:
        share = ratio_coverage(min(tries, 1000))
        print(f"{'latency.ratio, 4 launches of 10 rounds':40s}               {share:7.3f}")
    print(f"{outside} outside {ASKED[0]:.0%} to {ASKED[1]:.0%}")
    return outside


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tries", nargs="?", type=int, default=1000)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    sys.exit(bool(main(given.tries, given.names, given.minutes, given.processes)))
