"""This worker's micro-batches, loaded from a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...recipe.training import Train
from ..data.calling import move
from ..data.splits import Splits, batches
from .dealing import Share
from .parallel.axes import Axes
from .step import MicroBatch


def loaded_steps(
    splits: Splits, dataset: Any, dealt: Sequence[Sequence[Share]], axes: Axes, spec: Train
) -> Iterator[list[MicroBatch]]:
    """The micro-batches of each step on this worker's device."""
    loaded = batches(splits, dataset, [share.indices for shares in dealt for share in shares])
    for shares in dealt:
        step = []
        for share in shares:
            inputs, target = next(loaded)
            inputs, target = move(inputs, axes.device), target.to(axes.device)
            step.append(MicroBatch(inputs, target, share.own, share.weight))
        yield step
