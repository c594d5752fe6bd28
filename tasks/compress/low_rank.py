"""Low rank: linear layers and convolutions become two each, by truncated SVD."""

from __future__ import annotations

import torch
from torch import nn

from ...ray_workers.model.copies import copied
from ...ray_workers.model.layers import require_layers
from ...ray_workers.model.surgery import Factorize, factorize
from ...ray_workers.training.job import Lesson
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import NothingChanged
from ...recipe.passes import LowRank
from ...recipe.strict import short_name
from ..specs.compress import Coverage, ModulePassSpec
from .account import account, changed
from .coverage import SKIPPED, module_entry, tell
from .training_pass import PassContext, Retraining, train_on


def apply(work: Workspace[ModulePassSpec]) -> Result:
    """Input and output: `module`.

    Raises:
        NothingChanged: No layer would become smaller.
        StepFailed: A layer to skip does not exist.
    """
    spec = work.spec.compression
    assert isinstance(spec, LowRank)  # noqa: S101 (narrows a type)
    context = PassContext.load(work)
    before = account(context.model, context.samples)
    model = copied(context.model)
    ranks = _ranks(model, spec)
    for name, rank in ranks.items():
        factorize(model, name, rank)
    coverage = _coverage(context.model, spec, ranks)
    told = Result()
    tell(told, coverage, "factorized", "low-rank")
    operations = [*context.operations, Factorize(ranks=ranks)]
    quality = None
    if spec.recover_epochs:
        lesson = Lesson() if spec.recover_teacher else None
        how = Retraining("recover", spec.recover_epochs, spec.recover_lr_scale, lesson)
        model, quality = train_on(context, model, operations, how)
    context.keep(model, operations)
    result = changed("low-rank", before, account(model, context.samples), ranks, coverage)
    result.metrics |= told.metrics
    result.params |= told.params
    result.notes += told.notes
    result.params["low-rank/layers"] = len(ranks)
    if quality is not None:
        result.metrics[f"low-rank/validation_{short_name(work.spec.metric)}"] = quality
    return result


def _coverage(model: nn.Module, spec: LowRank, ranks: dict[str, int]) -> Coverage:
    layers = []
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        why: str | None = "two layers of the rank that it needs would be larger"
        if name in ranks:
            why = None
        elif name in spec.skip_layers:
            why = SKIPPED
        elif isinstance(layer, nn.Conv2d) and layer.groups > 1:
            why = f"it has {layer.groups} groups"
        layers.append(module_entry(name, layer, why))
    return Coverage(layers=tuple(layers))


def _ranks(model: nn.Module, spec: LowRank) -> dict[str, int]:
    """The rank of each layer that becomes smaller."""
    known = dict(model.named_modules())
    require_layers(spec.skip_layers, known, "low-rank.skip_layers")
    found: dict[str, int] = {}
    for name, layer in known.items():
        plain = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
        if not plain or name in spec.skip_layers:
            continue
        matrix = layer.weight.detach().flatten(1).float()
        rows, columns = matrix.shape
        if spec.energy is not None:
            energy = torch.linalg.svdvals(matrix).square().cumsum(0)
            rank = int((energy < spec.energy * energy[-1]).sum()) + 1
        else:
            rank = max(1, int(float(spec.budget or 0) * rows * columns / (rows + columns)))
        if rank * (rows + columns) < rows * columns:
            found[name] = rank
    if not found:
        raise NothingChanged(
            "no layer would become smaller",
            where="low-rank",
            do="lower energy or budget",
        )
    return found
