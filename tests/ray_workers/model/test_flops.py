"""Operations of a forward pass."""

from __future__ import annotations

import torch
from prefect_hone.ray_workers.model.flops import forward_flops
from torch import nn


class Table(nn.Module):
    """A layer that is called with a parameter, as DeBERTa's attention is."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.ones(3, 4))
        self.layer = nn.Linear(4, 5)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.norm(self.places[:1, :]))


def test_operations_are_counted_where_a_layer_is_called_with_a_parameter() -> None:
    assert forward_flops(Table(), torch.ones(2, 3, 4)) == 2 * 2 * 3 * 4 * 5


def test_what_torch_can_not_count_is_no_error() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("only here")

    assert forward_flops(Odd(), torch.ones(2)) == 0.0
