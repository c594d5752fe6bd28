"""Do the 95 % intervals of what is looked at besides quality hold the truth in 93 to 97 % of tries?

    python tests/benchmarks/intervals_looks.py [TRIES] [WORD...]

Groups, corruptions, explanations and flips; with words, only those whose name has one of them. Each
try draws a test split anew. The truth is that of a very large split: of the worst group, the quality
of the group that is the worst there, and of the worst corruption the loss under the one that is.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from intervals import is_outside
from prefect_hone.ray_workers.data.groups import Grouping
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.tasks.validate.attribution_agreement import Agreement, agreement_metrics
from prefect_hone.tasks.validate.corruptions import Corruption
from prefect_hone.tasks.validate.flips import flips
from prefect_hone.tasks.validate.groups import Judged
from prefect_hone.tasks.validate.loss_under import LossUnder, Pair
from prefect_hone.tasks.validate.robustness import lost_metrics

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
#: What is measured of so many samples, under MLflow's names.
Measure = Callable[[Rng, int], dict[str, float]]
_POPULATION = 100_000


def answers(rng: Rng, right: Array, lost: Array) -> tuple[Array, Array]:
    """Right (1) and wrong (0) answers of a trained model and of a candidate, each (N, 1).

    Args:
        rng: The generator.
        right: How often the trained model is right, of each sample.
        lost: How much less often the candidate is; half as many wrong answers become right.
    """
    before = rng.random(len(right)) < right
    broken = before & (rng.random(len(right)) < 1.5 * lost / right)
    repaired = ~before & (rng.random(len(right)) < 0.5 * lost / (1 - right))
    return before[:, None].astype(float), (before & ~broken | repaired)[:, None].astype(float)


def groups(rng: Rng, count: int, right: Sequence[float], lost: Sequence[float]) -> dict[str, float]:
    """Groups of equal size, of so different quality and loss."""
    members = rng.permutation(np.arange(count) % len(right))
    before, after = answers(rng, np.array(right)[members], np.array(lost)[members])
    return _of_groups("accuracy", members, before, after)


def groups_of_numbers(rng: Rng, count: int, lost: Sequence[float]) -> dict[str, float]:
    """Groups whose mean squared error grows by so much."""
    members = rng.permutation(np.arange(count) % len(lost))
    targets = rng.normal(size=(count, 1))
    before = targets + rng.normal(size=(count, 1))
    after = before + np.sqrt(np.array(lost))[members, None] * rng.normal(size=(count, 1))
    rows = [metric("mse").per_sample(values, targets) for values in (before, after)]
    return _of_groups("mse", members, *rows)


def _of_groups(name: str, members: Array, before: Array, after: Array) -> dict[str, float]:
    names = tuple(map(str, np.unique(members)))
    grouping = Grouping(by="site", groups=names, members=tuple(members.tolist()))
    judged = Judged(after, before, metric(name).aggregate, name == "accuracy")
    return judged.metrics(judged.groups(grouping, np.ones(len(members), bool)))


def corrupted(rng: Rng, count: int, extra: Sequence[float], name: str) -> dict[str, float]:
    """Corruptions that are harder to the trained model one after the other, and to the candidate by
    so much more. A sample that is easy is so under all of them.
    """
    ease, number = rng.normal(1.5, 1, count), rng.integers(0, 4, count)
    judge = metric(name)

    def rows(harder: float) -> Array:
        margin = ease - harder + 0.7 * rng.normal(size=count)
        logits = rng.normal(size=(count, 4))
        logits[np.arange(count), number] = np.delete(logits, 0, 1).max(axis=1) + margin
        return judge.per_sample(logits.astype(np.float32), number)

    found = {}
    for index, more in enumerate(extra):
        harder = 0.3 * (index % 3 + 1)
        how = Corruption(("noise", "blur", "contrast")[index // 3], index % 3 + 1)
        found[how] = Pair(rows(harder), rows(harder + more))
    loss = LossUnder.of(judge.aggregate, True, Pair(rows(0), rows(0.02)), found)
    return lost_metrics(loss, loss.conditions())


def explained(rng: Rng, count: int, noise: float) -> dict[str, float]:
    """Attributions of 8 x 8 regions, of which a few matter; some samples are harder to explain."""
    compared = []
    for _ in range(count):
        before = rng.gamma(0.5, 1, 64) * rng.choice([1, 1, 1, -1], 64)
        after = before + noise * rng.lognormal(0, 0.8) * rng.normal(size=64)
        compared.append(Agreement.of(before, after))
    return agreement_metrics(compared)


def flipped(rng: Rng, count: int, lost: float) -> dict[str, float]:
    found = flips(*answers(rng, np.full(count, 0.9), np.full(count, lost)))
    assert found is not None
    return found.metrics()


_EVEN = [0.85] * 8
_APART = [0.02, 0.02, 0.05, 0.02, 0.05, 0.1, 0.02, 0.1, 0.4]
KINDS: dict[str, tuple[Measure, int]] = {
    "groups, 8 alike, 400": (functools.partial(groups, right=_EVEN, lost=[0.03] * 8), 400),
    "groups, 5 apart, 400": (
        functools.partial(groups, right=[0.96, 0.95, 0.94, 0.9, 0.75], lost=[0, 0.01, 0.02, 0.02, 0.15]),
        400,
    ),
    "groups, 2, 100": (functools.partial(groups, right=[0.9, 0.8], lost=[0.02, 0.05]), 100),
    "groups of numbers, 6 alike, 300": (functools.partial(groups_of_numbers, lost=[0.2] * 6), 300),
    "groups of numbers, 4 apart, 300": (
        functools.partial(groups_of_numbers, lost=[0.05, 0.1, 0.2, 1.0]), 300,
    ),
    "corruptions alike, accuracy, 360": (
        functools.partial(corrupted, extra=[0.1] * 9, name="accuracy"), 360,
    ),
    "corruptions apart, accuracy, 360": (
        functools.partial(corrupted, extra=_APART, name="accuracy"), 360,
    ),
    "corruptions alike, f1_macro, 200": (
        functools.partial(corrupted, extra=[0.1] * 9, name="f1_macro"), 200,
    ),
    "corruptions apart, f1_macro, 200": (
        functools.partial(corrupted, extra=_APART, name="f1_macro"), 200,
    ),
    "explanations, 16": (functools.partial(explained, noise=0.1), 16),
    "explanations, 64": (functools.partial(explained, noise=0.1), 64),
    "explanations close, 16": (functools.partial(explained, noise=0.01), 16),
    "flips, 3 %, 200": (functools.partial(flipped, lost=0.015), 200),
    "flips, 10 %, 360": (functools.partial(flipped, lost=0.05), 360),
}  # fmt: skip


def coverage(measure: Measure, count: int, tries: int) -> dict[str, tuple[int, float]]:
    """Of each measure with an interval, the tries in which it had one, and the share of them in
    which that held the truth.
    """
    truth = measure(np.random.default_rng(1), _POPULATION if count > 99 else 20_000)
    held: dict[str, list[bool]] = {}
    for index in range(tries):
        found = measure(np.random.default_rng(1000 + index), count)
        for name in found:
            if f"{name}_low" in found:
                inside = found[f"{name}_low"] <= truth[name] <= found[f"{name}_high"]
                held.setdefault(name, []).append(inside)
    return {name: (len(kept), float(np.mean(kept))) for name, kept in held.items()}


def main(tries: int, words: list[str]) -> int:
    outside = 0
    for kind, (measure, count) in KINDS.items():
        if words and not any(word in kind for word in words):
            continue
        for name, (made, share) in coverage(measure, count, tries).items():
            mark = "!" if is_outside(share, made) else ""
            outside += bool(mark)
            print(f"{kind:36s}{name:28s}{made:6d}{share:8.3f}{mark}", flush=True)
    print(f"{outside} outside")
    return outside


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    sys.exit(
        bool(main(numbers[0] if numbers else 1000, [w for w in sys.argv[1:] if not w.isdigit()]))
    )
