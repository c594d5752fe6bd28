"""Data parallel: one replica per worker, gradients averaged in buckets as they are computed.

Li et al., "PyTorch Distributed", https://arxiv.org/abs/2006.15704. A communication hook compresses
what is sent: rounded to 16 bits, or as a low-rank product (PowerSGD, Vogels et al.,
https://arxiv.org/abs/1905.13727).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from ....recipe.errors import InputError
from ....recipe.parallel import DataParallel
from ...data.calling import outputs_for_loss
from .axes import Axes


def refuse_if_unable(spec: DataParallel, device: torch.device) -> None:
    """Refuse a hook that torch supports on GPUs only.

    Raises:
        InputError: With what to use instead.
    """
    if spec.compress == "bf16" and device.type != "cuda":
        raise InputError(
            "rounding gradients to bf16 needs GPUs (torch's hook runs on NCCL only)",
            where="train.parallel.data.compress",
            do="use fp16 or powersgd, or give the workers GPUs (train.resources.gpus)",
        )


class LossOutputs(nn.Module):
    """A model that returns what the loss gets: parameters that lead only to other outputs get no
    gradient, which DDP must see.

    Args:
        model: The whole model.
        every: Whether the loss gets all outputs, not the main one.
    """

    def __init__(self, model: nn.Module, every: bool) -> None:
        super().__init__()
        self.model = model
        self._every = every

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return outputs_for_loss(self.model, named or inputs, self._every)


def replicate(
    model: nn.Module, axes: Axes, spec: DataParallel, find_unused: bool, every: bool
) -> DistributedDataParallel:
    """A replica that averages its gradients with the others'.

    Args:
        model: The whole model.
        axes: This worker's place.
        spec: Of the recipe.
        find_unused: Whether parameters may be without gradient.
        every: Whether the loss gets all outputs.
    """
    refuse_if_unable(spec, axes.device)
    group = axes.group("data")
    made = DistributedDataParallel(
        LossOutputs(model, every),
        process_group=group,
        bucket_cap_mb=spec.bucket_mb,
        gradient_as_bucket_view=True,
        find_unused_parameters=find_unused,
        broadcast_buffers=False,  # `SharedBuffers` averages those that change
        device_ids=[axes.device.index] if axes.device.type == "cuda" else None,
    )
    state: Any = group
    match spec.compress:
        case "none":
            return made
        case "fp16":
            made.register_comm_hook(state, default_hooks.fp16_compress_hook)
        case "bf16":
            made.register_comm_hook(state, default_hooks.bf16_compress_hook)
        case "powersgd":
            state = powerSGD_hook.PowerSGDState(
                process_group=group,
                matrix_approximation_rank=spec.powersgd_rank,
                start_powerSGD_iter=spec.powersgd_after,
            )
            made.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    return made


def names_without_gradient(replica: DistributedDataParallel, error: RuntimeError) -> str:
    """The parameters of DDP's complaint that got no gradient in a step, by their names."""
    said = re.search(r"did not receive grad for rank \d+: ([\d ,]+)", str(error))
    names = [n.removeprefix("model.") for n, p in replica.module.named_parameters()
             if p.requires_grad]  # fmt: skip
    found = [names[int(index)] for index in re.findall(r"\d+", said[1])] if said else []
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
