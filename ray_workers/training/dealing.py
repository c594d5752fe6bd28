"""Which reader gets which samples of a step: one seeded shuffle, dealt to the readers.

The global batch is the recipe's, whatever the mesh. No sample is used twice in an epoch. Weights
make the averaged gradient that of the whole batch, also for the smaller last one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data.seed import mixed_seed
from ..data.splits import batch_indices


@dataclass(frozen=True)
class Share:
    """A worker's part of one micro-batch.

    Attributes:
        indices: Of its samples; the last ones may be padding.
        own: How many of them count.
        weight: Factor of its mean loss.
    """

    indices: Sequence[int]
    own: int
    weight: float


def shuffled(samples: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch, the same on every worker."""
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    order: list[int] = torch.randperm(samples, generator=generator).tolist()
    return order


def step_batches(order: Sequence[int], batch_size: int, least: int = 1) -> list[Sequence[int]]:
    """The samples of each step: a last batch of fewer than `least` joins the one before."""
    found = batch_indices(order, batch_size)
    if len(found) > 1 and len(found[-1]) < least:
        last = found.pop()
        found[-1] = [*found[-1], *last]
    return found


def count_steps(samples: int, batch_size: int, least: int = 1) -> int:
    """Steps of an epoch."""
    steps, last = divmod(samples, batch_size)
    return steps + (last >= least or (last > 0 and steps == 0))


def deal(
    order: Sequence[int],
    batch_size: int,
    readers: int,
    reader: int,
    parts: int = 1,
    same_size: bool = False,
    least: int = 1,
) -> list[list[Share]]:
    """A reader's micro-batches of each step.

    Args:
        order: All samples.
        batch_size: Samples per step over all readers.
        readers: How many share the batch.
        reader: Index of this one.
        parts: Micro-batches per step.
        same_size: Pad every micro-batch to the same size, as a pipeline requires.
        least: Fewest samples of a micro-batch; there are fewer of them if need be.

    Returns:
        For each step, its micro-batches. A reader that gets nothing of a small last batch computes
        one of its samples with weight 0, because every worker takes part in the reduction.
    """
    full = math.ceil(math.ceil(batch_size / readers) / parts)  # samples of a full micro-batch
    steps: list[list[Share]] = []
    for batch in step_batches(order, batch_size, least * readers):
        mine = batch[reader::readers]
        shares: list[Share] = []
        size = full if same_size else max(least, math.ceil(len(mine) / parts))
        if same_size and len(mine) > full * parts:  # a last batch joined this one
            size = math.ceil(len(mine) / parts)
        for own in _parts(mine, size, parts, same_size, least):
            indices = list(own) or [batch[i % len(batch)] for i in range(least)]
            if same_size:
                indices += [batch[0]] * (size - len(indices))
            shares.append(Share(indices, len(own), len(own) * readers / len(batch)))
        steps.append(shares)
    return steps


def _parts(
    mine: Sequence[int], size: int, parts: int, same_size: bool, least: int
) -> list[Sequence[int]]:
    """A reader's samples of a step by micro-batch."""
    if same_size:
        return [mine[start : start + size] for start in range(0, size * parts, size)]
    found = batch_indices(mine, size) or [mine]
    if len(found) > 1 and len(found[-1]) < least:
        last = found.pop()
        found[-1] = [*found[-1], *last]
    return found
