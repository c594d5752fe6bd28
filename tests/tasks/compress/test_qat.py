"""Quantization-aware training refuses by name what torchao can't prepare."""

from __future__ import annotations

import pytest
import torch
from prefect_hone.ray_workers.training.qat import with_fake_quantization
from prefect_hone.recipe.errors import StepFailed
from torch import nn


class Twice(nn.Module):
    """A residual block that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = torch.relu(x + self.block(x))
        return self.other(x)


def test_a_block_that_is_called_twice_is_named_with_what_to_do() -> None:
    pytest.importorskip("torchao")
    with pytest.raises(StepFailed, match=r"block\.0: called several times in one") as caught:
        with_fake_quantization(Twice(), torch.randn(2, 4, 5, 5))
    assert "other" not in caught.value.what
    assert "static-int8 quantizes such a model" in str(caught.value.do)
