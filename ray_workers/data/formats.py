"""The formats that splits can have."""

from __future__ import annotations

from ...recipe.data import Data
from ...recipe.errors import InputError
from ...recipe.library_messages import described
from .iterable_datasets import IterableDatasets
from .ray_datasets import RayDatasets
from .split_format import SplitFormat
from .torch_datasets import TorchDatasets

#: In the order in which they are tried; the user's own, `Data.format`, is tried first.
FORMATS: tuple[SplitFormat, ...] = (RayDatasets(), IterableDatasets(), TorchDatasets())


def format_of(name: str, data: Data) -> SplitFormat:
    """The format of a split.

    Args:
        name: Of the split (`train`).
        data: What the factory returned.

    Raises:
        InputError: None can read it.
    """
    split = getattr(data, name)
    own: tuple[SplitFormat, ...] = () if data.format is None else (data.format,)
    for found in (*own, *FORMATS):
        if found.claims(split):
            return found
    known = " or ".join(found.name for found in (*own, *FORMATS))
    raise InputError(
        f"{described(split)} is not a dataset with a length and items",
        where=f"data.factory: Data.{name}",
        do=f"it can be {known}; for another kind give Data(format=...)",
    )
