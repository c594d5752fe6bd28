"""A streamed train split as the loop's micro-batches: one worker of each replica reads, and sends
the samples to the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ...recipe.errors import InputError
from ..data.calling import move
from ..data.split_format import Feed, Rows
from .dealing import Fewest, Share, count_parts, deal, split_evenly
from .parallel.axes import Axes
from .step import MicroBatch

#: Workers along these axes get the same samples.
_SHARED = ("tensor", "context", "pipeline")


def streamed_steps(
    feed: Feed,
    axes: Axes,
    batch_size: int,
    parts: int,
    same_size: bool,
    epoch: int,
    skip: int,
    fewest: Fewest = Fewest(),  # noqa: B008 (frozen)
) -> Iterator[list[MicroBatch]]:
    """This worker's micro-batches of each step of an epoch, from a step on.

    Args:
        feed: Access to the split.
        axes: This worker's place.
        batch_size: Samples per step over all readers.
        parts: Micro-batches per step.
        same_size: Pad every micro-batch to the same size, as a pipeline requires.
        epoch: From 0.
        skip: Steps of the epoch that are done already.
        fewest: Fewest samples of a micro-batch and a step.

    Raises:
        InputError: The batch can't be dealt out evenly.
    """
    if batch_size % axes.readers:
        raise InputError(
            f"a batch of {batch_size} rows of a Ray dataset can't be dealt out evenly to "
            f"{axes.readers} workers",
            where="train.batch_size",
            do=f"use a multiple of {axes.readers}",
        )
    size = batch_size // axes.readers
    least = max(fewest.each, math.ceil(fewest.step / axes.readers))
    for rows, own in _without_tiny_end(_received(feed, axes, size, epoch, skip), least):
        counts = torch.zeros(axes.readers)
        counts[axes.reader] = own
        axes.sum(counts, "data", "shard")
        total = float(counts.sum())
        shares = _shares(own, int(counts.min()), size, parts, same_size, fewest.each)
        step = []
        for share in shares:
            inputs, target = rows.batch(np.asarray(share.indices))
            weight = share.own * axes.readers / total if total else 0.0
            moved = move(inputs, axes.device), move(target, axes.device)
            step.append(MicroBatch(*moved, share.own, weight))
        yield step


def _shares(
    own: int, smallest: int, size: int, parts: int, same_size: bool, least: int
) -> list[Share]:
    """Micro-batches of `own` rows; as many as on the reader that has the fewest."""
    if own and same_size:
        return deal(range(own), max(size, own), 1, 0, parts, same_size)[0]
    count = parts if same_size else count_parts(smallest, parts, least)
    if not own:
        each = math.ceil(size / parts) if same_size else least
        return [Share([0] * each, 0, 0.0)] * count
    return [Share(part, len(part), 1.0) for part in split_evenly(range(own), count)]


def _without_tiny_end(source: Iterator[tuple[Rows, int]], least: int) -> Iterator[tuple[Rows, int]]:
    """The batches, of which a last one of fewer rows than `least` joins the one before."""
    before: tuple[Rows, int] | None = None
    for rows, own in source:
        if before is not None and len(rows) < least:
            before = _joined(before, (rows, own))
            continue
        if before is not None:
            yield before
        before = rows, own
    if before is not None:
        yield before


def _joined(one: tuple[Rows, int], other: tuple[Rows, int]) -> tuple[Rows, int]:
    """Rows that count first, then padding."""
    (first, own), (second, more) = one, other
    columns = {
        name: np.concatenate([a[:own], second.columns[name][:more], a[own:],
                              second.columns[name][more:]])
        for name, a in first.columns.items()
    }  # fmt: skip
    return Rows(columns, first.inputs, first.target), own + more


def _received(
    feed: Feed, axes: Axes, size: int, epoch: int, skip: int
) -> Iterator[tuple[Rows, int]]:
    """What this worker reads, or receives from the one that reads for it."""
    reads = all(axes.at[axis] == 0 for axis in _SHARED)
    shared = [axis for axis in _SHARED if axes[axis] > 1]
    source = feed.rows(epoch, axes.readers, axes.reader, size, skip) if reads else iter(())
    while True:
        item: list[Any] = [next(source, None) if reads else None]
        for place, axis in enumerate(shared):
            # Workers at place 0 along the later axes have it already, or receive it next.
            if all(axes.at[later] == 0 for later in shared[place + 1 :]):
                dist.broadcast_object_list(item, group=axes.group(axis), group_src=0)
        if item[0] is None:
            return
        yield item[0]
