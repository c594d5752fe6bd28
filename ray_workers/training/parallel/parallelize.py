"""From a whole model to this worker's part of it: the kinds of parallelism, in order.

Each is imported only if the mesh uses it: together the imports take a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

from ....recipe.errors import InputError
from ....recipe.factories import Allowed
from ....recipe.training import Train
from ...data.calling import call_model, move
from ...model.copies import copied
from ...model.ties import aliases
from .axes import Axes
from .blocks import find_blocks

if TYPE_CHECKING:
    from .tensor import TensorPlan


@dataclass
class Placed:
    """This worker's part of a model.

    Attributes:
        parts: Its modules, under their names in the whole model: the whole one, or one or more
            pipeline stages.
        callable: What a batch is passed to, if there is no pipeline.
        notes: What was done, in words.
        aliases: Other names of tied tensors in the whole model, each with the first one.
    """

    parts: list[nn.Module]
    callable: nn.Module
    notes: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)

    def state(self) -> dict[str, torch.Tensor]:
        """This worker's shards of weights and buffers, by their names in the whole model."""
        found: dict[str, torch.Tensor] = {}
        for part in self.parts:
            for name, value in part.state_dict().items():
                if isinstance(value, torch.Tensor):
                    found.setdefault(self.aliases.get(name, name), value)
        return found

    def parameters(self) -> dict[str, nn.Parameter]:
        """This worker's parameters by their names in the whole model."""
        return {
            self.aliases.get(name, name): parameter
            for part in self.parts
            for name, parameter in part.named_parameters()
        }

    def train(self, mode: bool) -> None:
        for part in self.parts:
            part.train(mode)


def parallelize(
    model: nn.Module,
    spec: Train,
    axes: Axes,
    allowed: Allowed,
    sample: Any,
    find_unused: bool = False,
) -> Placed:
    """Split a model over the mesh.

    Args:
        model: The whole model, the same on every worker; it is modified.
        spec: The recipe's `train`.
        axes: This worker's place.
        allowed: Factories that may be called.
        sample: Inputs of a small batch, to verify a plan and to balance stages.
        find_unused: Whether parameters may be without gradient.

    Raises:
        InputError: The model does not support the mesh; with what to implement.
    """
    notes: list[str] = []
    others = aliases(model)
    if spec.sync_batch_norm and axes.readers > 1:
        from . import synced_norm

        model = synced_norm.sync(model, axes.device)
    if axes["context"] > 1:
        from . import context

        context.refuse_if_unable(axes.device)
    if axes["shard"] == 1 or axes["pipeline"] > 1 or axes["tensor"] > 1:
        model.to(axes.device)  # else each block goes there when it is sharded
    split = None
    if axes["pipeline"] > 1:
        split = _pipeline_split(model, spec, axes, allowed, sample)
        notes.append("pipeline stages: " + "; ".join(", ".join(names) for names in split))
    if axes["tensor"] > 1:
        notes.append(_split_layers(model, spec, axes, allowed, sample))
    parts: list[nn.Module] = [model]
    if split is not None:
        from . import pipeline

        own = range(axes.at["pipeline"], len(split), axes["pipeline"])
        parts = [pipeline.Stage(model, split[index]) for index in own]
    for part in parts:
        for block in find_blocks(part).values():
            if spec.recompute != "none":
                from .recompute import recompute

                recompute(block, spec.recompute)
            if spec.compile:
                block.compile()
    placed = Placed(parts, parts[0], notes, others)
    if replicates(axes):
        from .data import replicate

        placed.callable = replicate(
            parts[0], axes, spec.parallel.data, find_unused, spec.loss_gets_all
        )
    elif axes["shard"] > 1 or axes["context"] > 1:
        from .shard import shard

        for part in parts:
            shard(part, axes, spec.parallel.shard)
    elif axes["data"] > 1:
        from .shard import replicate_sharded

        for part in parts:
            replicate_sharded(part, axes, spec.parallel.shard)
    return placed


def replicates(axes: Axes) -> bool:
    """Whether each worker has a whole replica (DDP)."""
    others = ("shard", "tensor", "pipeline", "context")
    return axes["data"] > 1 and all(axes[axis] == 1 for axis in others)


def check_mesh(model: nn.Module, spec: Train, allowed: Allowed, sample: Any) -> list[str]:
    """Refuse, in one process and before anything starts, a mesh that a model does not support.

    Returns:
        What will be done, in words.

    Raises:
        InputError: With what to implement.
    """
    mesh, notes = spec.mesh, []
    device = torch.device("cuda" if spec.resources.gpus else "cpu")
    if mesh.context > 1:
        from . import context

        context.refuse_if_unable(device)
    if mesh.workers > 1:
        from . import data

        data.refuse_if_unable(spec.parallel.data, device)
    if mesh.data_range[1] * mesh.shard > 1:
        from . import synced_norm

        if spec.sync_batch_norm:
            synced_norm.refuse_if_unable(model)
        elif synced_norm.batch_norms(model):
            notes.append(
                "batch norms take the statistics of each worker's part of the batch; "
                "train.sync_batch_norm takes those of the whole batch"
            )
    if mesh.shard > 1 and not find_blocks(model):
        notes.append(
            "the model has no blocks (an nn.ModuleList or nn.Sequential of modules), so it is "
            "sharded as a whole: each worker gathers all of it in every pass"
        )
    if mesh.pipeline > 1:
        from . import pipeline

        stages = mesh.pipeline * spec.parallel.pipeline.stages_each
        split = pipeline.split_for(model, spec.parallel.pipeline, stages, allowed, sample)
        notes.append("pipeline stages: " + "; ".join(", ".join(names) for names in split))
    if mesh.tensor > 1:
        from . import tensor

        plan = tensor.plan_for(model, spec.parallel.tensor, mesh.tensor, allowed)
        notes.append(plan.describe())
    if spec.compile and not find_blocks(model):
        raise InputError(
            "the model has no blocks to compile",
            where="train.compile",
            do="put its repeated parts into an nn.ModuleList or nn.Sequential",
        )
    return notes


def _pipeline_split(
    model: nn.Module, spec: Train, axes: Axes, allowed: Allowed, sample: Any
) -> list[list[str]]:
    """The split by rank 0's measurements, the same on every worker."""
    from . import pipeline

    said: list[Any] = [None]
    stages = axes["pipeline"] * spec.parallel.pipeline.stages_each
    if axes.rank == 0:
        try:
            inputs = move(sample, axes.device)
            said = [pipeline.split_for(model, spec.parallel.pipeline, stages, allowed, inputs)]
        except InputError as error:
            said = [error]
    dist.broadcast_object_list(said)
    if isinstance(said[0], InputError):
        raise said[0]
    split: list[list[str]] = said[0]
    return split


def _split_layers(model: nn.Module, spec: Train, axes: Axes, allowed: Allowed, sample: Any) -> str:
    from . import tensor

    plan = tensor.plan_for(model, spec.parallel.tensor, axes["tensor"], allowed)
    if plan.derived:
        plan = _proven(model, plan, axes, sample)
    tensor.split_layers(model, plan, axes, spec.parallel.tensor.sequence)
    return plan.describe()


def _proven(model: nn.Module, plan: TensorPlan, axes: Axes, sample: Any) -> TensorPlan:
    """The derived plan, if the split model computes what the whole one does; else what is left
    without attention, if that does.

    Raises:
        InputError: Neither does; with what the whole plan changes.
    """
    from . import tensor

    expected = _outputs(copied(model), axes, sample)
    first: InputError | None = None
    tried: TensorPlan | None = plan
    while tried is not None:
        split = copied(model)
        try:
            tensor.split_layers(split, tried, axes, sequence=False)
            tensor.prove(tried, expected, _outputs(split, axes, sample))
        except (RuntimeError, ValueError) as error:
            first = first or InputError(
                f"the model does not run with the derived plan ({error}): {tried.describe()}",
                where="train.mesh.tensor",
                do=tensor.IMPLEMENT,
            )
        except InputError as error:
            first = first or error
        else:
            return tried
        tried = tried.instead
    assert first is not None  # noqa: S101 (narrows a type)
    raise first


def _outputs(model: nn.Module, axes: Axes, sample: Any) -> torch.Tensor:
    training = model.training
    model.eval()
    with torch.no_grad():
        found = call_model(model, move(sample, axes.device))
    model.train(training)
    return found
