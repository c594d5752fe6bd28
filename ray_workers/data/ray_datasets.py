"""Ray datasets as splits: train streams to the workers, the others are read into memory.

An epoch is Ray's `streaming_split` of the data set with its blocks in an order drawn for that
epoch: reading and preprocessing go on in Ray tasks, on whichever nodes have a CPU to spare, while
the workers train. Rows that fill up to the same number for every reader are marked, so that each
sample counts once. The same seed, epoch and number of readers give the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from ...recipe.data import Data
from ...recipe.errors import InputError, did_you_mean
from ...recipe.factories import user_modules
from .seed import mixed_seed

Columns = dict[str, np.ndarray[Any, Any]]

#: Rows of train that are read beforehand: to prove with, to balance with, and to calibrate with.
HEAD = 512
_OWN = "hone_own"


def is_ray_dataset(dataset: Any) -> bool:
    """Whether a split is a Ray dataset; imports nothing."""
    return type(dataset).__module__.startswith("ray.data") and hasattr(dataset, "streaming_split")


@dataclass(frozen=True)
class Rows:
    """Rows in memory as a torch dataset of `(inputs, target)`.

    Attributes:
        columns: Arrays (N, ...) by name.
        inputs: The column, or the columns, that are the model's inputs.
        target: The column of the target.
    """

    columns: Columns
    inputs: str | tuple[str, ...]
    target: str

    def __len__(self) -> int:
        return len(self.columns[self.target])

    def __getitem__(self, index: int) -> tuple[Any, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        target = torch.as_tensor(self.columns[self.target][index])
        if isinstance(self.inputs, str):
            return torch.as_tensor(self.columns[self.inputs][index]), target
        return {name: torch.as_tensor(self.columns[name][index]) for name in self.inputs}, target

    def batch(self, chosen: Any) -> tuple[Any, torch.Tensor]:
        """Some rows as a batch `(inputs, target)`."""
        target = torch.as_tensor(self.columns[self.target][chosen])
        if isinstance(self.inputs, str):
            return torch.as_tensor(self.columns[self.inputs][chosen]), target
        return {name: torch.as_tensor(self.columns[name][chosen]) for name in self.inputs}, target


@dataclass(frozen=True)
class Streamed:
    """A train split that streams: its length, and its first rows in memory.

    Attributes:
        head: The first rows.
        count: Rows of the whole data set.
    """

    head: Rows
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, torch.Tensor]:
        return self.head[index]


def in_memory(data: Data) -> Data:
    """The same data, with its Ray datasets as torch datasets; a train split stays a stream.

    Raises:
        InputError: A column is missing, or a streamed train split comes without a validation split.
    """
    named = {n: getattr(data, n) for n in ("train", "test", "validation", "calibration")}
    streams = {name: split for name, split in named.items() if is_ray_dataset(split)}
    if not streams:
        return data
    for name, dataset in streams.items():
        _check_columns(dataset, data, f"data.factory: Data.{name}")
    if "train" in streams and data.validation is None:
        raise InputError(
            "a Ray dataset as train needs a validation split: none can be taken from a stream",
            where="data.factory: Data.validation",
            do="give Data(validation=...), for example by dataset.train_test_split",
        )
    import ray

    travel_by_value()
    read = ray.remote(num_cpus=0)(_read)  # waiting for it frees this step's own CPU for the reading
    limits = {name: HEAD if name == "train" else None for name in streams}
    columns = _wanted(data)
    found = ray.get([read.remote(streams[name], columns, limits[name]) for name in streams])
    made: dict[str, Any] = {}
    for name, (values, count) in zip(streams, found, strict=True):
        rows = Rows(values, data.inputs, data.target)
        made[name] = Streamed(rows, count) if name == "train" else rows
    if "train" in made and data.calibration is None:
        made["calibration"] = made["train"].head
    return replace(data, **made)


def travel_by_value() -> None:
    """Let functions of the code folder travel to Ray tasks, which don't have the folder."""
    from ray import cloudpickle

    for module in user_modules():
        cloudpickle.register_pickle_by_value(module)


class Feeder:
    """Deals out a streamed train split, an epoch at a time. Runs as a Ray actor without a CPU.

    Args:
        data: What the factory returned, with Ray's own datasets.
        seed: Of the recipe.
    """

    def __init__(self, data: Data, seed: int) -> None:
        import ray.data

        self._data = data
        self._seed = seed
        self._train = cast(Any, data.train)
        self._count = self._train.count()
        self._epochs: dict[tuple[int, int], list[Any]] = {}
        ray.data.DataContext.get_current().execution_options.preserve_order = True

    def shard(self, epoch: int, readers: int, reader: int) -> Any:
        """A reader's Ray `DataIterator` of an epoch."""
        key = (epoch, readers)
        if key not in self._epochs:
            for old in [k for k in self._epochs if k[0] < epoch - 1 or k[1] != readers]:
                del self._epochs[old]
            dataset = self._train.select_columns(list(_wanted(self._data)))
            dataset.context.execution_options.preserve_order = True
            missing = -self._count % readers
            shuffled = dataset.randomize_block_order(seed=mixed_seed(self._seed, epoch))
            marked = shuffled.map_batches(_mark, fn_kwargs={"own": True}, batch_format="numpy")
            if missing:
                filling = dataset.limit(missing)
                marked = marked.union(
                    filling.map_batches(_mark, fn_kwargs={"own": False}, batch_format="numpy")
                )
            self._epochs[key] = marked.streaming_split(readers, equal=True)
        return self._epochs[key][reader]


@dataclass(frozen=True)
class Feed:
    """A worker's way to a `Feeder`: the loop knows only this.

    Attributes:
        data: The splits in memory, and the stream's head.
        feeder: A handle of the actor.
        seed: Of the recipe.
    """

    data: Data
    feeder: Any
    seed: int

    def rows(
        self, epoch: int, readers: int, reader: int, size: int, skip: int
    ) -> Iterator[tuple[Rows, int]]:
        """A reader's batches of an epoch, from a step on, and how many rows of each count.

        Args:
            epoch: From 0.
            readers: How many share the epoch.
            reader: Which one this is.
            size: Rows of a batch.
            skip: Steps of the epoch that are done already.

        Yields:
            Rows that count first, then those that only fill up.
        """
        import ray

        shard = ray.get(self.feeder.shard.remote(epoch, readers, reader))
        loaded = shard.iter_batches(
            batch_size=size,
            batch_format="numpy",
            prefetch_batches=2,
            local_shuffle_buffer_size=max(self.data.shuffle_rows, size),
            local_shuffle_seed=mixed_seed(self.seed, epoch, reader),
        )
        for step, columns in enumerate(loaded):
            if step == 0:
                self.feeder.shard.remote(epoch + 1, readers, reader)  # made ready meanwhile
            if step < skip:
                continue
            own = columns[_OWN]
            order = np.argsort(~own, kind="stable")
            wanted = {name: columns[name][order] for name in _wanted(self.data)}
            yield Rows(wanted, self.data.inputs, self.data.target), int(own.sum())


def _wanted(data: Data) -> tuple[str, ...]:
    inputs = (data.inputs,) if isinstance(data.inputs, str) else tuple(data.inputs)
    return (*inputs, data.target)


def _check_columns(dataset: Any, data: Data, where: str) -> None:
    has = list(dataset.schema().names)
    for name in _wanted(data):
        if name not in has:
            raise InputError(
                f"the Ray dataset has no column '{name}': {did_you_mean(name, has)}",
                where=where,
                do="name its columns with Data(inputs=..., target=...)",
            )


def _read(dataset: Any, columns: tuple[str, ...], limit: int | None) -> tuple[Columns, int]:
    """The rows of a Ray dataset, all or the first ones, and how many it has."""
    dataset.context.execution_options.preserve_order = True
    chosen = dataset.select_columns(list(columns))
    parts = list((chosen if limit is None else chosen.limit(limit)).iter_batches(
        batch_size=None, batch_format="numpy"
    ))  # fmt: skip
    if not parts:
        return {name: np.empty(0) for name in columns}, 0
    values = {name: np.concatenate([part[name] for part in parts]) for name in columns}
    for name, value in values.items():
        if value.dtype == object:
            raise InputError(
                f"the column '{name}' holds values of different shapes or no numbers",
                where="data.factory",
                do="make them arrays of one shape and type, for example in map_batches",
            )
    return values, len(values[columns[0]]) if limit is None else int(dataset.count())


def _mark(batch: Columns, own: bool) -> Columns:
    rows = len(next(iter(batch.values())))
    return {**batch, _OWN: np.full(rows, own)}
