"""Batch norm over the whole batch instead of each worker's part (`train.sync_batch_norm`).

On GPUs torch's `SyncBatchNorm`, which has no CPU kernels; on CPUs the same sums over the workers,
twice per layer and pass (Ioffe and Szegedy, https://arxiv.org/abs/1502.03167, over all workers).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ....recipe.errors import InputError

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncedBatchNorm(_BatchNorm):  # type: ignore[misc]  # torch has no type for it
    """Batch norm whose statistics in training are those of all workers' samples together."""

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002 (torch's name)
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's name)
        """Normalized channels.

        Args:
            input: (N, C, ...); N may differ between workers.
        """
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        self._check_input_dim(input)
        x = input.double() if input.dtype == torch.float64 else input.float()
        axes = [0, *range(2, x.dim())]
        shape = (1, -1, *(1 for _ in axes[1:]))
        own = x.new_full((1,), x.numel() / x.shape[1])
        summed = _over_workers(torch.cat([x.sum(axes), own]))
        count, mean = summed[-1].detach(), summed[:-1] / summed[-1].detach()
        centered = x - mean.view(shape)
        variance = _over_workers((centered * centered).sum(axes)) / count
        self._keep(mean.detach(), variance.detach(), float(count))
        found = centered * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        return found.to(input.dtype)

    def _keep(self, mean: torch.Tensor, variance: torch.Tensor, count: float) -> None:
        """Running statistics, of the unbiased variance as in torch."""
        if self.running_mean is None or self.running_var is None:
            return
        share = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if share is None:
                share = 1.0 / float(self.num_batches_tracked)
        assert share is not None  # torch counts batches where it has no momentum  # noqa: S101
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        unbiased = variance * (count / max(1.0, count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


def _over_workers(values: torch.Tensor) -> torch.Tensor:
    """The sum over all workers, with gradients to each of them."""
    from torch.distributed.nn.functional import all_reduce

    summed: torch.Tensor = all_reduce(values)
    return summed


def batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Its batch norms by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}


def refuse_if_unable(model: nn.Module) -> None:
    """Refuse batch norms whose forward is their own, which would be lost.

    Raises:
        InputError: With the layer's name.
    """
    for name, module in batch_norms(model).items():
        if type(module) not in (*_PLAIN, nn.SyncBatchNorm):
            raise InputError(
                f"layer '{name}' is a {type(module).__name__}, a batch norm with a forward of its "
                "own, which can't be computed over all workers",
                where="train.sync_batch_norm",
                do="use nn.BatchNorm1d, 2d or 3d, or leave sync_batch_norm out",
            )


def sync(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with the statistics of its batch norms over all workers; parameters are kept.

    Args:
        model: It is modified.
        device: Of this worker.
    """
    refuse_if_unable(model)
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for name, module in batch_norms(model).items():
        if not name:
            return _synced(module)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, _synced(module))
    return model


def _synced(norm: Any) -> SyncedBatchNorm:
    made = SyncedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    made.weight, made.bias = norm.weight, norm.bias
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(made, name, getattr(norm, name))
    made.train(norm.training)
    return made
