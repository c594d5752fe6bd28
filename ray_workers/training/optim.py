"""Optimizers, parameter groups, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from ...recipe.errors import InputError
from ...recipe.factories import Allowed, raised
from ...recipe.library_messages import described
from ...recipe.optimizers import (
    Adafactor,
    Adam,
    AdamW,
    Imported,
    Lamb,
    Lars,
    Muon,
    NAdam,
    Optimizer,
    Schedule,
    Sgd,
)

Group = dict[str, Any]


def make_optimizers(
    spec: Optimizer, parts: Sequence[nn.Module], allowed: Allowed
) -> list[torch.optim.Optimizer]:
    """The recipe's optimizer over the trainable parameters; Muon comes with an AdamW.

    Args:
        spec: Of the recipe.
        parts: This worker's parts of the model.
        allowed: Factories that may be called.

    Raises:
        InputError: Its package is not installed, or the factory returns no optimizer.
    """
    if isinstance(spec, Muon):
        return _muon(spec, parts)
    decay = None if isinstance(spec, Imported) else spec.weight_decay
    groups = parameter_groups(parts, decay, spec.decay_all)
    if not groups:
        return []  # a pipeline stage without parameters
    return [_make(spec, groups, allowed)]


def parameter_groups(
    parts: Iterable[nn.Module], weight_decay: float | None, decay_all: bool
) -> list[Group]:
    """Two groups: matrices and kernels, with weight decay, and norm weights and biases, without.

    Args:
        parts: Modules; a shared parameter counts once.
        weight_decay: None leaves it to the optimizer.
        decay_all: One group for all.
    """
    seen: dict[int, nn.Parameter] = {}
    for part in parts:
        for parameter in part.parameters():
            if parameter.requires_grad:
                seen.setdefault(id(parameter), parameter)
    found = list(seen.values())
    if decay_all or not weight_decay:
        decay = {} if weight_decay is None else {"weight_decay": weight_decay}
        return [{"params": found, **decay}] if found else []
    groups = [
        {"params": [p for p in found if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in found if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _make(spec: Optimizer, groups: list[Group], allowed: Allowed) -> torch.optim.Optimizer:
    match spec:
        case Sgd():
            return torch.optim.SGD(
                groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.nesterov
            )
        case Adam():
            return torch.optim.Adam(groups, lr=spec.lr, betas=spec.betas)
        case AdamW():
            return torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas)
        case NAdam():
            return torch.optim.NAdam(
                groups, lr=spec.lr, betas=spec.betas, decoupled_weight_decay=True
            )
        case Adafactor():
            return torch.optim.Adafactor(groups, lr=spec.lr)
        case Lamb():
            made: torch.optim.Optimizer = _large_batch().Lamb(groups, lr=spec.lr, betas=spec.betas)
        case Lars():
            made = _large_batch().LARS(groups, lr=spec.lr, momentum=spec.momentum)
        case Imported():
            made = _imported(spec, groups, allowed)
        case Muon():
            raise AssertionError("Muon is made apart")
    return made


def _imported(spec: Imported, groups: list[Group], allowed: Allowed) -> torch.optim.Optimizer:
    where = "train.optimizer.factory"
    factory = allowed.resolve(spec.factory, where)
    try:
        made = factory(groups, lr=spec.lr, **spec.args)
    except Exception as error:
        raise raised("the factory", error, f"{where}: {spec.factory}") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError(
            f"the factory returned {described(made)}, expected a torch.optim.Optimizer",
            where=f"{where}: {spec.factory}",
        )
    return made


def _large_batch() -> Any:
    try:
        import pytorch_optimizer
    except ModuleNotFoundError:
        raise InputError(
            "lamb and lars need the package pytorch_optimizer, which is not installed",
            where="train.optimizer",
            do="pip install 'prefect-hone[large-batch]'",
        ) from None
    return pytorch_optimizer


def _muon(spec: Muon, parts: Sequence[nn.Module]) -> list[torch.optim.Optimizer]:
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    seen: set[int] = set()
    for part in parts:
        embeddings = {id(m.weight) for m in part.modules() if isinstance(m, nn.Embedding)}
        linears = [m for m in part.modules() if isinstance(m, nn.Linear)]
        last = {id(linears[-1].weight)} if linears else set()
        for parameter in part.parameters():
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            hidden = parameter.ndim == 2 and id(parameter) not in embeddings | last
            (matrices if hidden else rest).append(parameter)
    made: list[torch.optim.Optimizer] = []
    if matrices:
        made.append(
            torch.optim.Muon(
                matrices, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
            )
        )
    if rest:
        made.append(torch.optim.AdamW(rest, lr=spec.adamw_lr, weight_decay=0.0))
    return made


def rate_factor(spec: Schedule, step: int, steps: int) -> float:
    """The learning rate at a step (from 0) as a share of the peak.

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


def set_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> float:
    """Set each group's learning rate to a share of its peak; returns the first group's rate."""
    first = None
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            highest = group.setdefault("initial_lr", group["lr"])
            group["lr"] = highest * factor
            first = group["lr"] if first is None else first
    return 0.0 if first is None else float(first)
