"""The digits and their model in float64, for tests in which rounding must not matter."""

from __future__ import annotations

from typing import Any

from prefect_hone import Data
from prefect_hone.recipe.examples.digits.digits_data import digits
from prefect_hone.recipe.examples.digits.digits_model import small_resnet
from torch import nn


class _Double:
    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        image, label = self._dataset[index]
        return image.double(), label


def model(width: int) -> nn.Module:
    return small_resnet(width=width).double()


def data() -> Data:
    made = digits()
    return Data(train=_Double(made.train), test=_Double(made.test))
