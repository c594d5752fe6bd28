"""Pipeline parallel: layers are distributed over workers, and micro-batches flow through them.

GPipe (Huang et al., https://arxiv.org/abs/1811.06965), 1F1B and interleaved 1F1B (Narayanan et al.,
https://arxiv.org/abs/2104.04473), through `torch.distributed.pipelining`. A model is split along
an ordered list of submodules that, one after the other, are its forward pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
)

from ....recipe.errors import InputError
from ....recipe.factories import Allowed
from ....recipe.parallel import Pipeline
from .axes import Axes

IMPLEMENT = (
    "give the model a method pipeline_split() that returns the names of its submodules in the "
    "order in which the forward pass calls them, each with the output of the one before "
    "(['embedding', 'blocks.0', ..., 'head']), or name such a function of the model in "
    "train.parallel.pipeline.split; a plain nn.Sequential needs none"
)


class Stage(nn.Module):
    """Some submodules of a model, one after the other, under the names they have in the model."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for name in names:
            *path, last = name.split(".")
            parent: nn.Module = self
            for part in path:
                if part not in dict(parent.named_children()):
                    parent.add_module(part, nn.ModuleDict())
                parent = parent.get_submodule(part)
            parent.add_module(last, model.get_submodule(name))

    def forward(self, x: Any) -> Any:
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x


def split_for(
    model: nn.Module, spec: Pipeline, stages: int, allowed: Allowed, sample: Any
) -> list[list[str]]:
    """The names of each stage's submodules.

    Args:
        model: The whole model.
        spec: Of the recipe.
        stages: How many are needed.
        allowed: Factories that may be called.
        sample: A batch's inputs, to measure what each submodule costs.

    Raises:
        InputError: The model can't be split; with what to implement.
    """
    split = _named_split(model, spec, allowed)
    where = "train.mesh.pipeline"
    if split and not isinstance(split[0], str):
        given = [list(names) for names in split]
        if len(given) != stages:
            raise InputError(
                f"the model splits itself into {len(given)} stages, the mesh asks for {stages}",
                where=where,
                do="change the mesh, or return a flat list of names, which is balanced",
            )
        flat = [name for names in given for name in names]
    else:
        flat = [str(name) for name in split]
        given = []
    _check_split(model, flat, where)
    if len(flat) < stages:
        raise InputError(
            f"the model has {len(flat)} parts to split at ({', '.join(flat)}), too few for "
            f"{stages} stages",
            where=where,
            do="lower mesh.pipeline or parallel.pipeline.stages_per_worker, or split finer",
        )
    _check_chain(model, flat, sample, where)
    return given or balance(flat, _costs(model, flat, sample), stages)


def make_schedule(
    parts: Sequence[nn.Module],
    spec: Pipeline,
    axes: Axes,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Any:
    """The schedule of this worker's stages; its loss is weighted already, so nothing is scaled."""
    count = axes["pipeline"] * len(parts)
    group = axes.group("pipeline")
    stages = [
        PipelineStage(
            part, axes.at["pipeline"] + i * axes["pipeline"], count, axes.device, group=group
        )
        for i, part in enumerate(parts)
    ]
    options: dict[str, Any] = {"loss_fn": loss, "scale_grads": False}
    match spec.schedule:
        case "gpipe":
            return ScheduleGPipe(stages[0], spec.microbatches, **options)
        case "1f1b":
            return Schedule1F1B(stages[0], spec.microbatches, **options)
        case "interleaved-1f1b":
            return ScheduleInterleaved1F1B(stages, spec.microbatches, **options)


def balance(names: Sequence[str], costs: Sequence[float], stages: int) -> list[list[str]]:
    """Split a sequence into contiguous stages, minimizing the cost of the most expensive one.

    Args:
        names: In order.
        costs: Of each (any unit).
        stages: Number of groups, none empty.
    """
    count = len(names)
    sums = [0.0]
    for cost in costs:
        sums.append(sums[-1] + cost)
    best = [[float("inf")] * (count + 1) for _ in range(stages + 1)]
    cut = [[0] * (count + 1) for _ in range(stages + 1)]
    best[0][0] = 0.0
    for stage in range(1, stages + 1):
        for end in range(stage, count + 1):
            for start in range(stage - 1, end):
                dearest = max(best[stage - 1][start], sums[end] - sums[start])
                if dearest < best[stage][end]:
                    best[stage][end], cut[stage][end] = dearest, start
    groups: list[list[str]] = []
    end = count
    for stage in range(stages, 0, -1):
        start = cut[stage][end]
        groups.insert(0, list(names[start:end]))
        end = start
    return groups


def _named_split(model: nn.Module, spec: Pipeline, allowed: Allowed) -> Sequence[Any]:
    if spec.split != "auto":
        function: Callable[[nn.Module], Any] = allowed.resolve(
            spec.split, "train.parallel.pipeline.split"
        )
        return list(function(model))
    if callable(own := getattr(model, "pipeline_split", None)):
        return list(own())
    if isinstance(model, nn.Sequential):
        return [name for name, _ in model.named_children()]
    raise InputError(
        f"a {type(model).__name__} does not say where it can be split into pipeline stages",
        where="train.mesh.pipeline",
        do=IMPLEMENT,
    )


def _check_split(model: nn.Module, names: Sequence[str], where: str) -> None:
    known = dict(model.named_modules())
    for name in names:
        if name not in known:
            raise InputError(
                f"the pipeline split names '{name}', and the model has no such submodule",
                where=where,
                do=f"it has: {', '.join(list(known)[1:12])}, ...",
            )
    chained = [p for name in names for p in known[name].parameters()]
    if len({id(p) for p in chained}) != len({id(p) for p in model.parameters()}):
        raise InputError(
            "the pipeline split leaves out some of the model's parameters",
            where=where,
            do=IMPLEMENT,
        )
    owners: dict[int, str] = {}
    for name in names:
        for parameter in known[name].parameters():
            if owners.setdefault(id(parameter), name) != name:
                raise InputError(
                    f"'{owners[id(parameter)]}' and '{name}' share a parameter, so they can't be "
                    "in two stages",
                    where=where,
                    do="untie the weights, or train without the axis 'pipeline'",
                )


def _check_chain(model: nn.Module, names: Sequence[str], sample: Any, where: str) -> None:
    """Check that the chain of submodules computes what the model computes."""
    if not isinstance(sample, torch.Tensor):
        raise InputError(
            "a pipeline takes models of one input tensor; this data gives a "
            f"{'dictionary' if isinstance(sample, dict) else 'tuple'}",
            where=where,
            do="give the inputs as one tensor, or train without the axis 'pipeline'",
        )
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            whole, chained = model(sample), Stage(model, names)(sample)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the parts of the pipeline split don't fit one after the other: {error}",
            where=where,
            do=IMPLEMENT,
        ) from error
    finally:
        model.train(training)
    if not isinstance(whole, torch.Tensor) or not torch.allclose(whole, chained, atol=1e-5):
        raise InputError(
            "the parts of the pipeline split, one after the other, don't compute what the model "
            "computes",
            where=where,
            do=IMPLEMENT,
        )


def _costs(model: nn.Module, names: Sequence[str], sample: torch.Tensor) -> list[float]:
    """Seconds of each part's forward pass, the median of three."""
    times: list[list[float]] = [[] for _ in names]
    with torch.no_grad():
        for _ in range(3):
            x: Any = sample
            for i, name in enumerate(names):
                started = time.perf_counter()
                x = model.get_submodule(name)(x)
                if isinstance(x, torch.Tensor) and x.is_cuda:
                    torch.cuda.synchronize()
                times[i].append(time.perf_counter() - started)
    return [sorted(t)[1] for t in times]
