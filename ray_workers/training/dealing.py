"""Which reader gets which samples of a step: one seeded shuffle, dealt to the readers.

The global batch is the recipe's, whatever the mesh. No sample is used twice in an epoch. Weights
make the averaged gradient that of the whole batch, also for the smaller last one.
"""

from __future__ import annotations

import itertools
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


@dataclass(frozen=True)
class Fewest:
    """What a model's batch norms need.

    Attributes:
        each: Fewest samples of a micro-batch.
        step: Fewest samples of a step over all readers.
    """

    each: int = 1
    step: int = 1

    @staticmethod
    def of(least: int, readers: int, synced: bool) -> Fewest:
        """For `readers` workers.

        Args:
            least: Fewest samples that the model takes in training.
            readers: Workers that share a batch.
            synced: Whether batch norms see the samples of all workers.
        """
        if least == 1:
            return Fewest()
        if synced and readers > 1:
            return Fewest(1, max(least, readers))
        return Fewest(least, least * readers)


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
    fewest: Fewest = Fewest(),
) -> list[list[Share]]:
    """A reader's micro-batches of each step.

    Args:
        order: All samples.
        batch_size: Samples per step over all readers.
        readers: How many share the batch.
        reader: Index of this one.
        parts: Micro-batches per step.
        same_size: Pad every micro-batch to the same size, as a pipeline requires.
        fewest: Fewest samples of a micro-batch and a step.

    Returns:
        For each step, its micro-batches: as many on every reader, because each may be a collective
        operation, and fewer than `parts` if need be. A reader that gets nothing of a small last
        batch computes one of its samples with weight 0.
    """
    full = math.ceil(math.ceil(batch_size / readers) / parts)  # samples of a full micro-batch
    steps: list[list[Share]] = []
    for batch in step_batches(order, batch_size, fewest.step):
        mine = batch[reader::readers]
        largest, smallest = math.ceil(len(batch) / readers), len(batch) // readers
        size = max(full, math.ceil(largest / parts))  # larger if a last batch joined this one
        found = (
            [mine[start : start + size] for start in range(0, size * parts, size)]
            if same_size
            else split_evenly(mine, count_parts(smallest, parts, fewest.each))
        )
        shares: list[Share] = []
        for own in found:
            indices = list(own) or [batch[i % len(batch)] for i in range(fewest.each)]
            if same_size:
                indices += [batch[0]] * (size - len(indices))
            shares.append(Share(indices, len(own), len(own) * readers / len(batch)))
        steps.append(shares)
    return steps


def count_parts(smallest: int, parts: int, least: int) -> int:
    """Micro-batches of a step, the same for all readers.

    Args:
        smallest: Samples of the reader with the fewest.
        parts: How many are wanted.
        least: Fewest samples of a micro-batch.
    """
    return max(1, min(parts, smallest // least))


def split_evenly(mine: Sequence[int], count: int) -> list[Sequence[int]]:
    """So many parts whose sizes differ by one at most; the larger ones first."""
    size, larger = divmod(len(mine), count)
    ends = [size * i + min(i, larger) for i in range(count + 1)]
    return [mine[a:b] for a, b in itertools.pairwise(ends)]
