"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.optim.lr_scheduler import LambdaLR

from ...recipe.training import Adam, AdamW, Schedule, Sgd


def make_optimizer(
    spec: Sgd | Adam | AdamW, parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The recipe's optimizer over the parameters that are trained."""
    trained = [p for p in parameters if p.requires_grad]
    match spec:
        case Sgd():
            return torch.optim.SGD(
                trained,
                lr=spec.lr,
                momentum=spec.momentum,
                nesterov=spec.nesterov,
                weight_decay=spec.weight_decay,
            )
        case Adam():
            return torch.optim.Adam(
                trained, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay
            )
        case AdamW():
            return torch.optim.AdamW(
                trained, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay
            )


def rate_factor(spec: Schedule, step: int, steps: int) -> float:
    """The learning rate at a step (from 0) as a share of the highest one.

    It rises linearly over the first `warmup * steps` steps and reaches `final` at the last one.
    Cosine: Loshchilov and Hutter, https://arxiv.org/abs/1608.03983, without restarts.
    """
    warmup = round(spec.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if spec.name == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    shape = (1 + math.cos(math.pi * progress)) / 2 if spec.name == "cosine" else 1 - progress
    return spec.final + (1 - spec.final) * shape


def make_schedule(spec: Schedule, optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    """A scheduler to step once an optimizer step."""
    return LambdaLR(optimizer, lambda step: rate_factor(spec, step, steps))
