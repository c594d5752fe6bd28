"""Ray datasets as splits: train streams to the workers, the others are read into memory.

An epoch is Ray's `streaming_split` of the data set, with its blocks in a new order per epoch. Ray
tasks read and preprocess on any node with a free CPU while the workers train. Rows that pad readers
to the same length are marked, so that each sample counts once. The same seed, epoch and number of
readers give the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...recipe.data import Data
from ...recipe.errors import InputError, did_you_mean
from ...recipe.factories import user_modules
from ..channel import on_this_node
from .fetching import WEIGHTS_ADVICE
from .seed import mixed_seed
from .split_format import Columns, Rows, SplitFormat, Stream

if TYPE_CHECKING:
    from .splits import Splits

#: Rows of train that are read in advance: to verify plans, to balance stages, and to calibrate.
HEAD = 512
_OWN = "hone_own"
#: Columns that say how much a sample counts.
_WEIGHTS = ("sample_weight", "sample_weights")


class RayDatasets(SplitFormat):
    """Ray datasets, whose columns `Data.inputs` and `Data.target` name."""

    name = "a Ray dataset"
    streams = True

    def claims(self, split: Any) -> bool:
        """Does not import Ray."""
        return type(split).__module__.startswith("ray.data") and hasattr(split, "streaming_split")

    def read(self, splits: dict[str, Any], data: Data) -> dict[str, Any]:
        """All at once, in Ray tasks; of train only the first rows."""
        import ray

        travel_by_value()  # before the columns are looked at, which may call the user's functions
        for name, dataset in splits.items():
            _check_columns(dataset, data, f"data.factory: Data.{name}")
        read = ray.remote(num_cpus=0)(_read)  # waiting frees this step's own CPU for the reading
        limits = {name: HEAD if name == "train" else None for name in splits}
        columns = _wanted(data)
        also = {"test": _groups(data)}
        found = ray.get([
            read.remote(splits[name], columns, limits[name], also.get(name, ())) for name in splits
        ])  # fmt: skip
        made: dict[str, Any] = {}
        for name, (values, count) in zip(splits, found, strict=True):
            rows = Rows(values, data.inputs, data.target)
            made[name] = Stream(rows, count) if name == "train" else rows
        return made

    @contextmanager
    def feed(self, data: Data, splits: Splits, seed: int) -> Iterator[RayFeed]:
        """Start an actor that distributes the rows of each epoch."""
        import ray

        travel_by_value()
        feeder = on_this_node(Feeder).remote(data, seed)
        try:
            yield RayFeed(splits, data.inputs, data.target, data.shuffle_rows, feeder, seed)
        finally:
            ray.kill(feeder)


def travel_by_value() -> None:
    """Pickle functions of the code folder by value, because Ray tasks don't have the folder."""
    from ray import cloudpickle

    for module in user_modules():
        cloudpickle.register_pickle_by_value(module)


class Feeder:
    """Distributes a streamed train split, one epoch at a time. A Ray actor that reserves no CPU.

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
class RayFeed:
    """A worker's access to a `Feeder`.

    Attributes:
        splits: All splits, train as a stream.
        inputs: Columns that are the model's inputs.
        target: The column of the target, or the columns of several.
        shuffle_rows: Size of the shuffle window (rows).
        feeder: A handle of the actor.
        seed: Of the recipe.
    """

    splits: Splits
    inputs: str | tuple[str, ...]
    target: str | tuple[str, ...]
    shuffle_rows: int
    feeder: Any
    seed: int

    def rows(
        self, epoch: int, readers: int, reader: int, size: int, skip: int
    ) -> Iterator[tuple[Rows, int]]:
        """See `Feed.rows`."""
        import ray

        shard = ray.get(self.feeder.shard.remote(epoch, readers, reader))
        loaded = shard.iter_batches(
            batch_size=size,
            batch_format="numpy",
            prefetch_batches=2,
            local_shuffle_buffer_size=max(self.shuffle_rows, size),
            local_shuffle_seed=mixed_seed(self.seed, epoch, reader),
        )
        for step, columns in enumerate(_full(loaded, size)):
            if step == 0:
                self.feeder.shard.remote(epoch + 1, readers, reader)  # made ready meanwhile
            if step < skip:
                continue
            own = columns[_OWN]
            order = np.argsort(~own, kind="stable")
            wanted = {name: columns[name][order] for name in _names(self.inputs, self.target)}
            yield Rows(wanted, self.inputs, self.target), int(own.sum())


def _full(batches: Iterator[Columns], size: int) -> Iterator[Columns]:
    """The same rows in batches of which only the last is short.

    Ray's shuffle buffer gives a short one whenever it is used up, of another size to each reader:
    an epoch would have more steps than its rows make, and readers could differ in their number.
    """
    left: Columns = {}
    for batch in batches:
        left = {n: np.concatenate([left[n], part]) if left else part for n, part in batch.items()}
        count = len(left[_OWN])
        for start in range(0, count - size + 1, size):
            yield {name: part[start : start + size] for name, part in left.items()}
        done = count // size * size
        left = {name: part[done:] for name, part in left.items()} if done < count else {}
    if left:
        yield left


def _wanted(data: Data) -> tuple[str, ...]:
    return _names(data.inputs, data.target)


def _groups(data: Data) -> tuple[str, ...]:
    """Columns of the test split that say a sample's groups."""
    return () if isinstance(data.groups, Mapping) else tuple(data.groups)


def _names(inputs: str | tuple[str, ...], target: str | tuple[str, ...]) -> tuple[str, ...]:
    both = ((part,) if isinstance(part, str) else tuple(part) for part in (inputs, target))
    return tuple(name for part in both for name in part)


def _check_columns(dataset: Any, data: Data, where: str) -> None:
    has = list(dataset.schema().names)
    unread = [n for n in has if n in _WEIGHTS and n not in (*_wanted(data), *_groups(data))]
    if unread:
        raise InputError(
            f"the Ray dataset has a column '{unread[0]}', which nothing reads: every sample would "
            "count the same",
            where=where,
            do=f"{WEIGHTS_ADVICE}; or drop the column",
        )
    groups = _groups(data) if where.endswith(".test") else ()
    for name in (*_wanted(data), *groups):
        if name not in has:
            raise InputError(
                f"the Ray dataset has no column '{name}': {did_you_mean(name, has)}",
                where=where,
                do="name its columns with Data(inputs=..., target=..., groups=...)",
            )


def _read(
    dataset: Any, columns: tuple[str, ...], limit: int | None, groups: tuple[str, ...]
) -> tuple[Columns, int]:
    """The rows of a Ray dataset, all or the first ones, and how many it has."""
    dataset.context.execution_options.preserve_order = True
    chosen = dataset.select_columns([*dict.fromkeys((*columns, *groups))])
    parts = list((chosen if limit is None else chosen.limit(limit)).iter_batches(
        batch_size=None, batch_format="numpy"
    ))  # fmt: skip
    if not parts:
        return {name: np.empty(0) for name in columns}, 0
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for name, value in values.items():
        if value.dtype == object and name not in groups:
            raise InputError(
                f"the column '{name}' holds values of different shapes or no numbers",
                where="data.factory",
                do="make them arrays of one shape and type, for example in map_batches",
            )
    return values, len(values[columns[0]]) if limit is None else int(dataset.count())


def _mark(batch: Columns, own: bool) -> Columns:
    rows = len(next(iter(batch.values())))
    return {**batch, _OWN: np.full(rows, own)}
