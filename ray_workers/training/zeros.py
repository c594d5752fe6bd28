"""Pruned weights stay zero while the others recover."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.distributed.tensor import DTensor


def zero_masks(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """For each matrix or kernel with zeros, a mask of where this worker's part is not zero."""
    masks = {name: _local(value) != 0 for name, value in parameters.items() if value.ndim >= 2}
    return {name: mask for name, mask in masks.items() if not bool(mask.all())}


def keep_zeros(masks: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.Tensor]) -> None:
    """Set masked weights to zero, in place."""
    if masks:
        with torch.no_grad():
            for name, mask in masks.items():
                _local(parameters[name]).mul_(mask)


def _local(value: torch.Tensor) -> torch.Tensor:
    return value.to_local() if isinstance(value, DTensor) else value.detach()
