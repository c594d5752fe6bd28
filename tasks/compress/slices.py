"""Linear layers that lose units: rows of one layer go with columns of the next."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def places(blocks: torch.Tensor, size: int) -> torch.Tensor:
    """The units of blocks of a size, such as heads."""
    return (blocks[:, None] * size + torch.arange(size)).flatten()


def keep_units(columns: Sequence[nn.Linear], row: nn.Linear, units: torch.Tensor) -> None:
    """Keep units that some layers compute and one reads."""
    for column in columns:
        keep_outputs(column, units)
    row.weight = nn.Parameter(row.weight.detach()[:, units].clone())
    row.in_features = len(units)


def keep_outputs(layer: nn.Linear, units: torch.Tensor) -> None:
    """Keep some of a layer's outputs."""
    layer.weight = nn.Parameter(layer.weight.detach()[units].clone())
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[units].clone())
    layer.out_features = len(units)


def linear(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer of a name."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)  # noqa: S101 (narrows a type)
    return layer
