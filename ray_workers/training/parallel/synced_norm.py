"""Batch norm over the whole batch instead of each worker's part (`train.sync_batch_norm`).

On GPUs torch's `SyncBatchNorm`, which has no CPU kernels; on CPUs the same sums over the workers,
twice per layer and pass (Ioffe and Szegedy, https://arxiv.org/abs/1502.03167, over all workers).
A batch norm with a forward of its own (timm's `BatchNormAct2d`) keeps it: only its call of
`torch.nn.functional.batch_norm` is replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

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
        share = self.momentum
        if self.running_mean is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if share is None:
                share = 1.0 / float(self.num_batches_tracked)
        return _over_the_whole_batch(
            input, self.running_mean, self.running_var, self.weight, self.bias,
            momentum=share or 0.0, eps=self.eps,
        )  # fmt: skip


def _over_the_whole_batch(
    input: torch.Tensor,  # noqa: A002 (torch's name)
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """What `torch.nn.functional.batch_norm` computes in training, over all workers' samples."""
    x = input.double() if input.dtype == torch.float64 else input.float()
    axes = [0, *range(2, x.dim())]
    shape = (1, -1, *(1 for _ in axes[1:]))
    own = x.new_full((1,), x.numel() / x.shape[1])
    summed = _over_workers(torch.cat([x.sum(axes), own]))
    count, mean = summed[-1].detach(), summed[:-1] / summed[-1].detach()
    centered = x - mean.view(shape)
    variance = _over_workers((centered * centered).sum(axes)) / count
    if running_mean is not None and running_var is not None:
        unbiased = variance.detach() * (float(count) / max(1.0, float(count) - 1))
        running_mean.lerp_(mean.detach().to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    found = centered * torch.rsqrt(variance + eps).view(shape)
    if weight is not None:
        found = found * weight.view(shape)
    if bias is not None:
        found = found + bias.view(shape)
    return found.to(input.dtype)


class _Replaced(TorchFunctionMode):  # type: ignore[misc]  # torch has no type for it
    """Calls of `torch.nn.functional.batch_norm` in training go to another function."""

    def __init__(self, other: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self._other = other
        self.calls = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not functional.batch_norm or not _is_training(*args, **kwargs):
            return func(*args, **kwargs)
        self.calls += 1
        return self._other(*args, **kwargs)


def _is_training(
    _input: Any, _mean: Any, _variance: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> bool:  # fmt: skip
    return training


class _OfItsOwn:
    """Goes before a class of batch norms with a forward of their own, which stays as it is."""

    training: bool

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the class computes, with statistics of all workers' samples."""
        if not self.training or not dist.is_initialized():
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        with _Replaced(_over_the_whole_batch):
            return super().forward(*args, **kwargs)  # type: ignore[misc]


def _over_workers(values: torch.Tensor) -> torch.Tensor:
    """The sum over all workers, with gradients to each of them."""
    from torch.distributed.nn.functional import all_reduce

    summed: torch.Tensor = all_reduce(values)
    return summed


def batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Its batch norms by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}


def refuse_if_unable(model: nn.Module) -> None:
    """Refuse batch norms that compute statistics of their own.

    Raises:
        InputError: With the layer's name.
    """
    for name, module in batch_norms(model).items():
        if type(module) in (*_PLAIN, nn.SyncBatchNorm) or _calls_torch(module):
            continue
        raise InputError(
            f"layer '{name}' is a {type(module).__name__}, a batch norm that computes its "
            "statistics by itself, so they can't be taken over all workers",
            where="train.sync_batch_norm",
            do="let its forward call torch.nn.functional.batch_norm or super().forward, or leave "
            "sync_batch_norm out",
        )


def _calls_torch(norm: Any) -> bool:
    """Whether a batch norm leaves its statistics to `torch.nn.functional.batch_norm`."""
    for shape in ((2, 2), (), (2,), (2, 2, 2)):
        tried = copy.deepcopy(norm).train()
        given = torch.zeros(2, norm.num_features, *shape).to(next(_tensors(norm), torch.zeros(0)))
        with _Replaced(functional.batch_norm) as mode, torch.no_grad():
            try:
                tried(given)
            except Exception:  # noqa: S112 (an input of another number of axes)
                continue
            return bool(mode.calls == 1)
    return False


def _tensors(norm: nn.Module) -> Iterator[torch.Tensor]:
    yield from norm.parameters()
    yield from (value for value in norm.buffers() if value.is_floating_point())


def sync(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with the statistics of its batch norms over all workers; parameters are kept.

    Args:
        model: It is modified.
        device: Of this worker.
    """
    refuse_if_unable(model)
    for name, module in batch_norms(model).items():
        made = _synced(module, device)
        if not name:
            return made
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, made)
    return model


def _synced(norm: Any, device: torch.device) -> Any:
    if type(norm) not in _PLAIN:
        if not isinstance(norm, nn.SyncBatchNorm):
            norm.__class__ = type(f"Synced{type(norm).__name__}", (_OfItsOwn, type(norm)), {})
        return norm
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)
        return converted
    made = SyncedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    made.weight, made.bias = norm.weight, norm.bias
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(made, name, getattr(norm, name))
    made.train(norm.training)
    return made
