"""Torch's iterable datasets as splits: read once, into memory, with a length or without."""

from __future__ import annotations

import sys
from typing import Any

import psutil

from ...recipe.data import Data
from ...recipe.errors import HoneError, InputError
from ...recipe.factories import raised
from .split_format import SplitFormat

#: Samples and share of the free memory after which a split is taken for endless.
_MOST_SAMPLES = 10_000_000
_MOST_MEMORY = 0.5
_LOOK_EVERY = 1000


class IterableDatasets(SplitFormat):
    """A `torch.utils.data.IterableDataset`, which gives its samples in an order of its own."""

    name = "an iterable dataset"

    def claims(self, split: Any) -> bool:
        if "torch" not in sys.modules:
            return False
        from torch.utils.data import IterableDataset

        return isinstance(split, IterableDataset)

    def read(self, splits: dict[str, Any], data: Data) -> dict[str, Any]:
        return {name: _listed(name, split) for name, split in splits.items()}


def _listed(name: str, split: Any) -> list[Any]:
    """All samples.

    Raises:
        InputError: Iterating fails, or does not end.
    """
    where = f"data.factory: Data.{name}"
    free = psutil.virtual_memory().available
    process, found = psutil.Process(), []
    before = process.memory_info().rss
    try:
        for sample in split:
            found.append(sample)
            if len(found) % _LOOK_EVERY:
                continue
            if len(found) > _MOST_SAMPLES or (
                process.memory_info().rss - before > _MOST_MEMORY * free
            ):
                raise InputError(
                    f"the iterable data set is endless or larger than memory: {len(found)} samples "
                    "were read",
                    where=where,
                    do="let it end, give a data set with items by index, or a Ray dataset, which "
                    "streams",
                )
    except HoneError:
        raise
    except Exception as error:
        raise raised(f"reading sample {len(found)}", error, where) from error
    return found
