"""Linear layers that lose units: rows of one layer go with columns of the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class Slicing:
    """Changes of sizes in place, which can be undone: old tensors are kept, not copied."""

    def __init__(self) -> None:
        self._before: list[tuple[nn.Module, str, Any]] = []

    def set(self, owner: nn.Module, name: str, value: Any) -> None:
        """Set an attribute."""
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def keep_units(self, columns: Sequence[nn.Linear], row: nn.Linear, units: torch.Tensor) -> None:
        """Keep units that some layers compute and one reads."""
        for column in columns:
            self.keep_outputs(column, units)
        self.set(row, "weight", nn.Parameter(row.weight.detach()[:, units].clone()))
        self.set(row, "in_features", len(units))

    def keep_outputs(self, layer: nn.Linear, units: torch.Tensor) -> None:
        """Keep some of a layer's outputs."""
        self.set(layer, "weight", nn.Parameter(layer.weight.detach()[units].clone()))
        if layer.bias is not None:
            self.set(layer, "bias", nn.Parameter(layer.bias.detach()[units].clone()))
        self.set(layer, "out_features", len(units))

    def undo(self) -> None:
        """Everything as it was."""
        for owner, name, value in reversed(self._before):
            setattr(owner, name, value)
        self._before.clear()


def places(blocks: torch.Tensor, size: int) -> torch.Tensor:
    """The units of blocks of a size, such as heads."""
    return (blocks[:, None] * size + torch.arange(size)).flatten()


def linear(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer of a name."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)  # noqa: S101 (narrows a type)
    return layer
