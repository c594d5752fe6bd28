"""Prune: channels, heads and MLP units with a real change of shape, or single weights to zero."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...ray_workers.data.calling import call_model
from ...ray_workers.data.splits import batches
from ...ray_workers.model.flops import forward_flops
from ...ray_workers.model.layers import require_layers
from ...ray_workers.model.surgery import Surgery, reshaped, shapes
from ...ray_workers.training.job import Lesson
from ...ray_workers.training.losses import make_loss
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import InputError, StepFailed
from ...recipe.library_messages import telling
from ...recipe.passes import PruneChannels, PruneMagnitude, PruneTwoFour, PruneWidths
from ...recipe.strict import short_name
from ..specs.compress import ModulePassSpec
from .account import account, changed
from .training_pass import PassContext, Retraining, train_on
from .widths import prune_widths

_TAYLOR_BATCHES, _TAYLOR_SIZE = 4, 64


def apply(work: Workspace[ModulePassSpec]) -> Result:
    """Input and output: `module`.

    Raises:
        StepFailed: Naming the layer that can't be pruned, or a layer to skip that does not exist.
    """
    spec: Any = work.spec.compression
    context = PassContext.load(work)
    before = account(context.model, context.samples)
    pruned = copy.deepcopy(context.model)
    operations = list(context.operations)
    quality = None
    rounds = spec.rounds if isinstance(spec, PruneMagnitude) else 1
    for number in range(rounds):
        was = shapes(pruned)
        pruned = _prune(spec, context, pruned, (number + 1) / rounds)
        operation = reshaped(was, pruned)
        if operation.layers:
            operations.append(operation)
        if spec.recover_epochs:
            pruned, quality = _recover(spec, context, pruned, operations, number, rounds)
    context.keep(pruned, operations)
    after = account(pruned, context.samples)
    result = changed(f"prune-{spec.method.replace(':', '-')}", before, after)
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


def _prune(spec: Any, context: PassContext, model: nn.Module, progress: float) -> nn.Module:
    """The pruned model; of gradual pruning, after a share of its rounds."""
    match spec:
        case PruneChannels():
            return _prune_channels(spec, context, model)
        case PruneMagnitude():
            return _zero_smallest(spec, model, spec.ratio * (1 - (1 - progress) ** 3))
        case PruneTwoFour():
            return _two_of_four(spec, model)
        case PruneWidths():
            return prune_widths(spec, model)
    raise AssertionError(spec)


def _prune_channels(spec: PruneChannels, context: PassContext, model: nn.Module) -> nn.Module:
    if spec.ratio is not None:
        return _with_ratio(spec, context, model, spec.ratio)
    measure = _measures(context)[str(spec.reach)]
    whole, low, high = measure(model), 0.0, 0.95
    best: nn.Module | None = None
    for _ in range(7):  # the ratio to within a hundredth
        ratio = (low + high) / 2
        pruned = _with_ratio(spec, context, model, ratio)
        if measure(pruned) <= float(spec.at_most or 0) * whole:
            best, high = pruned, ratio
        else:
            low = ratio
    if best is None:
        raise StepFailed(
            f"even with {high:.0%} of the channels removed, {spec.reach} stay above "
            f"{spec.at_most:.0%}",
            where="prune.at_most",
            do="raise at_most, or lower round_to",
        )
    return best


def _measures(context: PassContext) -> dict[str, Callable[[nn.Module], float]]:
    return {
        "flops": lambda model: forward_flops(model, context.samples.inputs),
        "parameters": lambda model: float(sum(p.numel() for p in model.parameters())),
        "latency": lambda model: _seconds(model, context.samples.inputs),
    }


def _seconds(model: nn.Module, sample: Any) -> float:
    """Median duration of a forward pass of a few samples in eager mode, on one thread (s)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    try:
        with torch.inference_mode():
            for _ in range(25):
                started = time.perf_counter()
                call_model(model, sample)
                times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times[5:])


def _with_ratio(
    spec: PruneChannels, context: PassContext, model: nn.Module, ratio: float
) -> nn.Module:
    """A copy of the model with a share of its channels removed, by torch-pruning."""
    try:
        import torch_pruning as tp
    except ModuleNotFoundError:
        raise InputError(
            "pruning of channels needs the package torch-pruning, which is not installed",
            where="prune",
            do="pip install 'prefect-hone[prune]'",
        ) from None
    pruned = copy.deepcopy(model)
    importance = {
        "magnitude": lambda: tp.importance.GroupMagnitudeImportance(p=2),
        "taylor": lambda: tp.importance.GroupTaylorImportance(),
        "bn-scale": lambda: tp.importance.BNScaleImportance(),
    }[spec.importance]()
    has_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in pruned.modules())
    if spec.importance == "bn-scale" and not has_norm:
        raise StepFailed(
            "importance bn-scale needs batch norms, and the model has none", where="prune"
        )
    known = dict(pruned.named_modules())
    require_layers(spec.skip_layers, known, "prune.skip_layers")
    ignored = [known[name] for name in spec.skip_layers]
    ignored += [last for last in [_last(pruned, context.samples.inputs)] if last is not None]
    try:
        pruner = tp.pruner.BasePruner(
            pruned,
            context.samples.inputs,
            importance=importance,
            pruning_ratio=ratio,
            global_pruning=spec.scope == "global",
            max_pruning_ratio=0.95,
            ignored_layers=ignored,
            round_to=spec.round_to,
        )
        if spec.importance == "taylor":
            _accumulate_gradients(pruned, context)
        pruner.step()
        pruned.zero_grad(set_to_none=True)
        with torch.no_grad():
            call_model(pruned.eval(), context.samples.inputs)
    except Exception as error:
        raise StepFailed(
            f"the model's channels can't be pruned: {telling(error)}{_suspect(pruned, error)}",
            where="prune",
            do="list the layers to leave unchanged in skip_layers",
        ) from error
    return pruned


def _suspect(model: nn.Module, error: BaseException) -> str:
    """The layer whose forward pass raised, if the traceback shows it."""
    frame, found = error.__traceback__, ""
    names = {id(module): name for name, module in model.named_modules()}
    while frame is not None:
        name = names.get(id(frame.tb_frame.f_locals.get("self")))
        found = name or found
        frame = frame.tb_next
    return f" (layer {found})" if found else ""


def _accumulate_gradients(model: nn.Module, context: PassContext) -> None:
    """Gradients of the loss on training batches (Molchanov et al., arXiv:1906.10771)."""
    loss = make_loss(context.work.spec.train.loss, context.work.allowed)
    count = min(len(context.splits.train), _TAYLOR_BATCHES * _TAYLOR_SIZE)
    groups = [range(i, min(i + _TAYLOR_SIZE, count)) for i in range(0, count, _TAYLOR_SIZE)]
    for inputs, target in batches(context.splits, context.splits.train, groups):
        loss(call_model(model, inputs), target).backward()


def _last(model: nn.Module, sample: Any) -> nn.Module | None:
    """The layer that computes the outputs: its width must not change."""
    order: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda m, _i, _o: order.append(m))
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ]
    with torch.no_grad():
        call_model(model.eval(), sample)
    for handle in handles:
        handle.remove()
    return order[-1] if order else None


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
    odd = {name: w.shape[1] for name, w in weights.items() if w.shape[1] % 4}
    if odd or not weights:
        named = ", ".join(f"'{name}' ({width})" for name, width in list(odd.items())[:5])
        raise StepFailed(
            f"2:4 sparsity needs inputs in multiples of four, and these layers have others: {named}"
            if odd
            else "the model has no linear layer or convolution to prune",
            where="prune",
            do="list them in skip_layers",
        )
    with torch.no_grad():
        for weight in weights.values():
            rows = weight.movedim(1, -1)
            groups = rows.reshape(*rows.shape[:-1], -1, 4)
            smallest = groups.abs().argsort(dim=-1)[..., :2]
            mask = torch.ones_like(groups).scatter_(-1, smallest, 0.0)
            weight.mul_(mask.reshape(rows.shape).movedim(-1, 1))
    return model
