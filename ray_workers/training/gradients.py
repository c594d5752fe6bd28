"""The norm of a gradient that is distributed over a mesh, and clipping by it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Replicate

from .parallel.axes import Axes


def reduce_partial_gradients(parts: Iterable[nn.Module]) -> None:
    """Sum gradients that tensor-parallel workers hold parts of (DTensor's `Partial`)."""
    for part in parts:
        for parameter in part.parameters():
            grad = parameter.grad
            if isinstance(grad, DTensor) and any(p.is_partial() for p in grad.placements):
                whole = [Replicate() if p.is_partial() else p for p in grad.placements]
                parameter.grad = grad.redistribute(placements=whole)


def gradient_norm(parts: Iterable[nn.Module], axes: Axes) -> torch.Tensor:
    """The 2-norm of the whole model's gradient, the same scalar on every worker.

    The squares of each parameter's local elements are summed over the axes that it is split along
    and over the pipeline, and counted once where workers have copies.
    """
    squares: dict[tuple[str, ...], torch.Tensor] = {}
    seen: set[int] = set()
    for part in parts:
        for parameter in part.parameters():
            if parameter.grad is None or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            grad = parameter.grad
            split: tuple[str, ...] = ()
            if isinstance(grad, DTensor):
                names = grad.device_mesh.mesh_dim_names or ()
                split = tuple(
                    name
                    for name, placement in zip(names, grad.placements, strict=True)
                    if not placement.is_replicate()
                )
                grad = grad.to_local()
            square = grad.detach().float().pow(2).sum().to(axes.device)
            squares[split] = squares[split] + square if split in squares else square
    total = torch.zeros((), device=axes.device)
    for split in sorted(squares):  # workers of one stage have the same ones
        total = total + axes.sum(squares[split], *split)
    return axes.sum(total, "pipeline").sqrt()


def scale(parts: Iterable[nn.Module], factor: torch.Tensor) -> None:
    """Multiply all gradients, in place."""
    seen: set[int] = set()
    for part in parts:
        for parameter in part.parameters():
            if parameter.grad is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                grad = parameter.grad
                (grad.to_local() if isinstance(grad, DTensor) else grad).mul_(
                    factor.to(grad.device)
                )


def clip(parts: list[nn.Module], axes: Axes, largest: float | None) -> torch.Tensor:
    """Clip by the norm of the whole gradient (Pascanu et al., https://arxiv.org/abs/1211.5063).

    Returns:
        The norm before.
    """
    norm = gradient_norm(parts, axes)
    if largest is not None:
        scale(parts, (largest / (norm + 1e-6)).clamp(max=1.0))
    return norm
