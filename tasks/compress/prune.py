"""Prune: channels, heads and MLP units with a real change of shape, or single weights to zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...ray_workers.model.copies import copied
from ...ray_workers.model.layers import require_layers
from ...ray_workers.model.surgery import Surgery, reshaped, shapes
from ...ray_workers.training.job import Lesson
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ...recipe.passes import PruneChannels, PruneMagnitude, PruneTwoFour, PruneWidths
from ...recipe.strict import short_name
from ..specs.compress import ModulePassSpec
from .account import account, changed
from .channels import ChannelPruning
from .coverage import of_module, tell
from .training_pass import PassContext, Retraining, train_on
from .widths import prune_widths


def apply(work: Workspace[ModulePassSpec]) -> Result:
    """Input and output: `module`.

    Raises:
        NothingChanged: Every layer stays as it is; with the reasons, before anything is trained.
        StepFailed: The model can't be pruned, or a layer to skip does not exist.
    """
    spec: Any = work.spec.compression
    context = PassContext.load(work)
    before = account(context.model, context.samples)
    pruned = copied(context.model)
    operations = list(context.operations)
    quality = None
    channels = ChannelPruning(spec, context) if isinstance(spec, PruneChannels) else None
    told = Result()
    rounds = spec.rounds if isinstance(spec, PruneMagnitude) else 1
    for number in range(rounds):
        was = shapes(pruned)
        progress = (number + 1) / rounds
        pruned = channels.pruned(pruned) if channels else _prune(spec, pruned, context, progress)
        if number == 0:
            coverage = (
                channels.coverage(context.model, pruned)
                if channels
                else of_module(
                    context.model,
                    pruned,
                    getattr(spec, "skip_layers", ()),
                    _odd_widths(pruned) if isinstance(spec, PruneTwoFour) else {},
                )
            )
            tell(told, coverage, "pruned", "prune")
        operation = reshaped(was, pruned)
        if operation.layers:
            operations.append(operation)
        if spec.recover_epochs:
            pruned, quality = _recover(spec, context, pruned, operations, number, rounds)
    context.keep(pruned, operations)
    after = account(pruned, context.samples)
    result = changed(f"prune-{spec.method.replace(':', '-')}", before, after, coverage=coverage)
    result.metrics |= told.metrics
    result.params |= told.params
    result.notes += told.notes
    if quality is not None:
        result.metrics[f"prune/validation_{short_name(work.spec.metric)}"] = quality
    return result


def _recover(
    spec: Any,
    context: PassContext,
    model: nn.Module,
    operations: list[Surgery],
    number: int,
    rounds: int,
) -> tuple[nn.Module, float]:
    epochs = spec.recover_epochs // rounds
    if number == rounds - 1:
        epochs += spec.recover_epochs % rounds
    lesson = Lesson() if spec.recover_teacher else None
    how = Retraining(
        name=f"recover-{number + 1}",
        epochs=epochs,
        lr_scale=spec.recover_lr_scale,
        lesson=lesson,
        keep_zeros=isinstance(spec, PruneMagnitude | PruneTwoFour),
    )
    return train_on(context, model, operations, how)


def _prune(spec: Any, model: nn.Module, context: PassContext, progress: float) -> nn.Module:
    """The pruned model; of gradual pruning, after a share of its rounds."""
    match spec:
        case PruneMagnitude():
            return _zero_smallest(spec, model, spec.ratio * (1 - (1 - progress) ** 3))
        case PruneTwoFour():
            return _two_of_four(spec, model)
        case PruneWidths():
            return prune_widths(spec, model, context.samples.inputs)
    raise AssertionError(spec)


def _prunable(model: nn.Module, skip: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Weights of linear layers and convolutions by the layer's name."""
    known = dict(model.named_modules())
    require_layers(skip, known, "prune.skip_layers")
    return {
        name: module.weight
        for name, module in known.items()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and name not in skip
    }


def _zero_smallest(spec: PruneMagnitude, model: nn.Module, share: float) -> nn.Module:
    weights = _prunable(model, spec.skip_layers)
    if not weights:
        raise StepFailed("the model has no linear layer or convolution to prune", where="prune")
    with torch.no_grad():
        limit = None
        if spec.scope == "global":
            everything = torch.cat([w.abs().flatten() for w in weights.values()])
            limit = everything.kthvalue(max(1, int(share * len(everything)))).values
        for weight in weights.values():
            own = weight.abs().flatten().kthvalue(max(1, int(share * weight.numel()))).values
            weight.mul_(weight.abs() > (own if limit is None else limit))
    return model


def _two_of_four(spec: PruneTwoFour, model: nn.Module) -> nn.Module:
    weights = _prunable(model, spec.skip_layers)
    odd = _odd_widths(model)
    fit = {name: weight for name, weight in weights.items() if name not in odd}
    if not fit:
        named = ", ".join(f"'{name}' ({w.shape[1]})" for name, w in list(weights.items())[:5])
        raise StepFailed(
            f"2:4 sparsity needs inputs in multiples of four, and no layer has such: {named}"
            if weights
            else "the model has no linear layer or convolution to prune",
            where="prune",
        )
    with torch.no_grad():
        for weight in fit.values():
            rows = weight.movedim(1, -1)
            groups = rows.reshape(*rows.shape[:-1], -1, 4)
            smallest = groups.abs().argsort(dim=-1)[..., :2]
            mask = torch.ones_like(groups).scatter_(-1, smallest, 0.0)
            weight.mul_(mask.reshape(rows.shape).movedim(-1, 1))
    return model


def _odd_widths(model: nn.Module) -> dict[str, str]:
    """Why layers are left by 2:4 sparsity."""
    return {
        name: f"its {weight.shape[1]} inputs are no multiple of four"
        for name, weight in _prunable(model, ()).items()
        if weight.shape[1] % 4
    }
