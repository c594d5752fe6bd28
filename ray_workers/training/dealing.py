"""Who gets which samples of a step: one seeded draw, dealt out over those who read.

The global batch is the recipe's, whatever the mesh; no sample is seen twice in an epoch; and the
weights make the averaged gradient that of the whole batch, the last smaller one included.
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
        indices: Of its samples; the last ones may only fill up.
        own: How many of them count.
        weight: What its mean loss is multiplied with.
    """

    indices: Sequence[int]
    own: int
    weight: float


def shuffled(samples: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch, the same on every worker."""
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    order: list[int] = torch.randperm(samples, generator=generator).tolist()
    return order


def deal(
    order: Sequence[int],
    batch_size: int,
    readers: int,
    reader: int,
    parts: int = 1,
    same_size: bool = False,
) -> list[list[Share]]:
    """A reader's micro-batches of each step.

    Args:
        order: All samples.
        batch_size: Samples a step over all readers.
        readers: How many deal the batch out among them.
        reader: Which one this is.
        parts: Micro-batches a step.
        same_size: Fill up every micro-batch to the same size, as a pipeline needs it.

    Returns:
        For each step, its micro-batches. A reader that gets nothing of a last small batch computes
        one of its samples with weight 0, because every worker takes part in the reduction.
    """
    full = math.ceil(math.ceil(batch_size / readers) / parts)  # samples of a full micro-batch
    steps: list[list[Share]] = []
    for batch in batch_indices(order, batch_size):
        mine = batch[reader::readers]
        shares: list[Share] = []
        size = full if same_size else max(1, math.ceil(len(mine) / parts))
        for start in range(0, size * parts, size):
            own = mine[start : start + size]
            if not own and not same_size and shares:
                break
            indices = list(own) or [batch[0]]
            if same_size:
                indices += [batch[0]] * (size - len(indices))
            shares.append(Share(indices, len(own), len(own) * readers / len(batch)))
        steps.append(shares)
    return steps
