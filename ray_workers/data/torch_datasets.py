"""Torch datasets as splits: the form that all other formats are converted to."""

from __future__ import annotations

from typing import Any

from ...recipe.data import Data
from .split_format import SplitFormat


class TorchDatasets(SplitFormat):
    """Anything with a length and items by index, each a pair `(inputs, target)`."""

    name = "a torch dataset"

    def claims(self, split: Any) -> bool:
        return hasattr(split, "__len__") and hasattr(split, "__getitem__")

    def read(self, splits: dict[str, Any], data: Data) -> dict[str, Any]:
        return splits
