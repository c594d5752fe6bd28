"""The interface of a data format, `SplitFormat`, and building blocks for formats.

Every format is reduced to torch datasets of `(inputs, target)`, read by index. A train split larger
than memory is a `Stream` instead: its first rows can be read by index, and its `Feed` provides all
of them, one epoch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from ...recipe.data import Data

if TYPE_CHECKING:
    from .splits import Splits

Columns = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Rows:
    """Rows in memory as a torch dataset of `(inputs, target)`.

    Attributes:
        columns: Arrays (N, ...) by name.
        inputs: The column, or the columns, that are the model's inputs.
        target: The column of the target, or the columns of several.
    """

    columns: Columns
    inputs: str | tuple[str, ...]
    target: str | tuple[str, ...]

    def __len__(self) -> int:
        return len(self.columns[self.target if isinstance(self.target, str) else self.target[0]])

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.batch(index)

    def batch(self, chosen: Any) -> tuple[Any, Any]:
        """Some rows as a batch `(inputs, target)`."""
        return self._read(self.inputs, chosen), self._read(self.target, chosen)

    def _read(self, names: str | tuple[str, ...], chosen: Any) -> Any:
        if isinstance(names, str):
            return torch.as_tensor(self.columns[names][chosen])
        return {name: torch.as_tensor(self.columns[name][chosen]) for name in names}


@dataclass(frozen=True)
class Stream:
    """A streamed train split: its length, and its first rows in memory.

    Attributes:
        head: The first rows.
        count: Rows of the whole data set.
    """

    head: Rows
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.head[index]


class Feed(Protocol):
    """A worker's access to a streamed train split, all that the training loop knows of it. It is
    pickled and sent to the workers.

    Attributes:
        splits: All splits, train as a `Stream`.
    """

    @property
    def splits(self) -> Splits: ...

    def rows(
        self, epoch: int, readers: int, reader: int, size: int, skip: int
    ) -> Iterator[tuple[Rows, int]]:
        """A reader's batches of an epoch from a step on, each with the number of rows that count.

        The same seed, epoch and number of readers give the same rows in the same order. Over all
        readers each row of the split counts once, and all readers have the same number of batches.

        Args:
            epoch: From 0.
            readers: How many share the epoch.
            reader: Index of this one.
            size: Rows of a batch.
            skip: Steps of the epoch that are done already.

        Yields:
            Rows that count first, then padding.
        """


class SplitFormat(Protocol):
    """How splits of one kind are read. To add your own, subclass it and pass an instance to
    `Data(format=...)`.

    Attributes:
        name: Name of such a split in errors (`a Ray dataset`).
        streams: Whether a train split of this kind comes from a `Feed`.
    """

    name: str
    streams: bool = False

    def claims(self, split: Any) -> bool:
        """Whether a split is of this kind; reads no data."""

    def read(self, splits: dict[str, Any], data: Data) -> dict[str, Any]:
        """The splits of this kind as torch datasets of `(inputs, target)`, rows in their order.

        Args:
            splits: Those of this kind, by name (`train`, `test`, ...).
            data: What the factory returned; `inputs` and `target` name columns.

        Returns:
            A dataset for each, with a length and items by index; for a streamed train split a
            `Stream`.

        Raises:
            InputError: They can't be read; with the missing column.
        """

    def feed(self, data: Data, splits: Splits, seed: int) -> AbstractContextManager[Feed | None]:
        """A context that gives access to a streamed train split; None if it does not stream.

        Args:
            data: What the factory returned.
            splits: The splits as they were read.
            seed: Of the recipe.
        """
        return nullcontext()
