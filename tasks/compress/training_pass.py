"""Tools for a pass on a module: its context, and retraining with the recipe's loop and mesh."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import fsspec
import torch
from safetensors.torch import load_file
from torch import nn

from ...ray_workers.data.asking import data_of
from ...ray_workers.data.splits import SampleBatch, Splits, few_samples, split
from ...ray_workers.events import Event, Metric
from ...ray_workers.model.computed_weights import computed_weights, make_plain
from ...ray_workers.model.module import build, load_module, refuse_lazy, save_module
from ...ray_workers.model.onnx_model import torch_module
from ...ray_workers.model.surgery import Linearize, PlainWeights, Surgery, operations_of
from ...ray_workers.model.ties import take_from
from ...ray_workers.model.transposed_linear import make_linear, transposed_layers
from ...ray_workers.scratch import scratch_folder
from ...ray_workers.store.artifacts import Store
from ...ray_workers.store.file_names import WEIGHTS
from ...ray_workers.training.checkpoints import Checkpoints
from ...ray_workers.training.job import Lesson, TrainJob
from ...ray_workers.workspace import Workspace
from ...recipe.errors import StepFailed
from ...recipe.parallel import Elastic, Mesh
from ...recipe.training import Train
from ..specs.compress import ModulePassSpec


@dataclass(frozen=True)
class PassContext:
    """What a pass on a module works with.

    Attributes:
        work: The workspace; its input `module` is the module before the pass.
        model: The module before the pass, in evaluation mode.
        operations: Operations applied to the factory's model so far.
        splits: Of the data; test is not used.
        samples: A few of the training samples, to try the model with.
    """

    work: Workspace[ModulePassSpec]
    model: nn.Module
    operations: list[Surgery]
    splits: Splits
    samples: SampleBatch

    @staticmethod
    def load(work: Workspace[ModulePassSpec]) -> PassContext:
        """Load the module and the data."""
        spec, folder = work.spec, work.inputs["module"]
        model = load_module(spec.model, work.allowed, folder)
        torch_module(model, spec.compression.name)
        if spec.compression.kind in ("prune", "low-rank"):
            refuse_lazy(model, spec.compression.name)
        operations = operations_of(folder)
        if names := transposed_layers(model):
            make_linear(model, names)
            operations.append(Linearize(layers=names))
        if names := computed_weights(model):
            make_plain(model, names)
            operations.append(PlainWeights(tensors=names))
        data = data_of(work, spec.data)
        splits = split(data, spec.seed)
        return PassContext(work, model, operations, splits, few_samples(splits))

    def keep(self, model: nn.Module, operations: Sequence[Surgery]) -> None:
        """Write the module after the pass."""
        save_module(model, operations, self.work.output("module", "weights"))


@dataclass(frozen=True)
class Retraining:
    """How a module is trained further.

    Attributes:
        name: Of this training within the step.
        epochs: Epochs of training (a count).
        lr_scale: Learning rate relative to the recipe's.
        lesson: How the module before the pass is used as teacher; None: it isn't.
        keep_zeros: Weights that are zero stay zero.
        qat: With the rounding of int8 in the forward pass.
    """

    name: str
    epochs: int
    lr_scale: float
    lesson: Lesson | None = None
    keep_zeros: bool = False
    qat: bool = False


def train_on(
    context: PassContext, model: nn.Module, operations: Sequence[Surgery], how: Retraining
) -> tuple[nn.Module, float]:
    """Train a module further, by the recipe's loop on the recipe's mesh.

    Args:
        context: Of the pass; its model is the teacher, if there is a lesson.
        model: Where training starts.
        operations: Operations that derive it from the factory's model.
        how: Epochs, learning rate and teacher.

    Returns:
        The module with the best weights, and their quality on the validation split.
    """
    from ...ray_workers.training.launch.actors import fit

    job = _job(context, model, operations, how)
    label = context.work.spec.label
    if not label.endswith(f"/{how.name}"):
        label = f"{label}/{how.name}"
    fit(job, _under(context.work, label))
    weights, quality = _best(job)
    made = build(context.work.spec.model, context.work.allowed, operations)
    # What training added to the model, such as projections and observers, is dropped. A graph that
    # was trained has no parameters that no output depends on: they stay as they were.
    take_from(made, {**model.state_dict(), **weights})
    with contextlib.suppress(OSError):
        fs, root = fsspec.core.url_to_fs(job.checkpoints)
        fs.rm(root, recursive=True)
    return made.eval(), quality


def _job(
    context: PassContext, model: nn.Module, operations: Sequence[Surgery], how: Retraining
) -> TrainJob:
    """The recipe's training, starting from a module."""
    work, spec = context.work, context.work.spec
    store = Store(work.store_url, Path(work.cache_url))
    with scratch_folder("start") as folder:
        save_module(model, operations, Path(folder))
        start = store.put(Path(folder), "weights")
    teacher = store.put(work.inputs["module"], "weights") if how.lesson is not None else None
    optimizer = spec.train.optimizer.slower(how.lr_scale)
    train = spec.train.model_copy(update={"epochs": how.epochs, "optimizer": optimizer})
    return TrainJob(
        model=spec.model,
        data=spec.data,
        train=replicated(train) if how.qat else train,
        metric=spec.metric,
        metric_outputs=spec.metric_outputs,
        higher_is_better=spec.higher_is_better,
        allowed=work.allowed,
        checkpoints=f"{work.store_url}/training/{work.lineage}-{how.name}",
        start=start,
        teacher=teacher,
        lesson=how.lesson,
        keep_zeros=how.keep_zeros,
        qat=how.qat,
        store=work.store_url,
        cache=work.cache_url,
        checkpoint_key=work.checkpoint_key,
    )


def replicated(train: Train) -> Train:
    """A training on as many workers, each with the whole model.

    torch's FSDP does not know modules that are graphs, and the plans of the other axes go by the
    layers that a graph no longer has.
    """
    mesh = train.mesh
    if mesh.replica == 1:
        return train
    fewest, most = (min(n * mesh.replica, train.batch_size) for n in mesh.data_range)
    data = Elastic(min=fewest, max=most) if mesh.is_elastic else most
    return train.model_copy(update={"mesh": Mesh(data=data)})


def _best(job: TrainJob) -> tuple[dict[str, torch.Tensor], float]:
    """The weights of the best checkpoint, and its quality."""
    checkpoints = Checkpoints(job.checkpoints, job.higher_is_better, key=job.checkpoint_key)
    best = checkpoints.best()
    if best is None or best.quality is None:
        raise StepFailed("training ended without a checkpoint", where=job.checkpoints)
    with scratch_folder("best") as folder:
        checkpoints.export(best, Path(folder))
        return load_file(Path(folder) / WEIGHTS), best.quality


def _under(work: Workspace[ModulePassSpec], prefix: str) -> Workspace[ModulePassSpec]:
    """The same workspace, with a prefix for the names of metrics."""
    report = work.report

    def renamed(event: Event) -> None:
        if isinstance(event, Metric):
            event = replace(event, name=f"{prefix}/{event.name}")
        report(event)

    return replace(work, report=renamed)
