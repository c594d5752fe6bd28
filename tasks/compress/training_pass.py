"""A pass that trains: the recipe's loop, from a module, on the recipe's mesh."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
from safetensors.torch import load_file
from torch import nn

from ...ray_workers.data.splits import Splits, few_samples, split
from ...ray_workers.events import Event, Metric
from ...ray_workers.model.module import build, load_module, save_module
from ...ray_workers.model.onnx_model import torch_module
from ...ray_workers.model.surgery import Surgery, operations_of
from ...ray_workers.store.artifacts import Store
from ...ray_workers.store.file_names import WEIGHTS
from ...ray_workers.training.checkpoints import Checkpoints
from ...ray_workers.training.job import Lesson, TrainJob
from ...ray_workers.workspace import Workspace
from ...recipe.errors import StepFailed
from ..specs.compress import ModulePassSpec


@dataclass
class Bench:
    """What a pass on a module works with.

    Attributes:
        work: The workspace; its input `module` is the module before the pass.
        model: The module before the pass, in evaluation mode.
        operations: What was done to the factory's model so far.
        splits: Of the data; test is not looked at.
        sample: Inputs of a few training samples.
        samples: How many.
    """

    work: Workspace[ModulePassSpec]
    model: nn.Module
    operations: list[Surgery]
    splits: Splits
    sample: Any
    samples: int

    @staticmethod
    def of(work: Workspace[ModulePassSpec]) -> Bench:
        """Load the module and the data."""
        spec, folder = work.spec, work.inputs["module"]
        model = load_module(spec.model, work.allowed, folder)
        torch_module(model, spec.compression.name)
        data = work.allowed.call(spec.data.factory, spec.data.args, "data.factory")
        splits = split(data, spec.seed)
        return Bench(work, model, operations_of(folder), splits, *few_samples(splits))

    def keep(self, model: nn.Module, operations: Sequence[Surgery]) -> None:
        """Write the module after the pass."""
        save_module(model, operations, self.work.output("module", "weights"))


def train_on(
    bench: Bench,
    model: nn.Module,
    operations: Sequence[Surgery],
    name: str,
    epochs: int,
    lr_scale: float,
    lesson: Lesson | None = None,
    keep_zeros: bool = False,
    qat: bool = False,
) -> tuple[nn.Module, float]:
    """Train a module further.

    Args:
        bench: Of the pass; its model is the teacher, if there is a lesson.
        model: Where training starts.
        operations: What was done to the factory's model to get it.
        name: Of this training within the step.
        epochs: Of this training.
        lr_scale: Learning rate, relative to the recipe's.
        lesson: How the module before the pass teaches; None: it does not.
        keep_zeros: Weights that are zero stay so.
        qat: With the rounding of int8 in the forward pass.

    Returns:
        The module with the best weights, and their quality on the validation split.
    """
    from ...ray_workers.training.launch.actors import fit

    work, spec = bench.work, bench.work.spec
    store = Store(work.store_url, Path(work.cache_url))
    with tempfile.TemporaryDirectory(prefix="hone-start-") as folder:
        save_module(model, operations, Path(folder))
        start = store.put(Path(folder), "weights")
    teacher = store.put(work.inputs["module"], "weights") if lesson is not None else None
    train = spec.train
    train = train.model_copy(
        update={"epochs": epochs, "optimizer": train.optimizer.slower(lr_scale)}
    )
    url = f"{work.store_url}/training/{work.lineage}-{name}"
    job = TrainJob(
        model=spec.model,
        data=spec.data,
        train=train,
        metric=spec.metric,
        higher_is_better=spec.higher_is_better,
        allowed=work.allowed,
        checkpoints=url,
        start=start,
        teacher=teacher,
        lesson=lesson,
        keep_zeros=keep_zeros,
        qat=qat,
        store=work.store_url,
        cache=work.cache_url,
    )
    label = spec.label
    fit(job, _under(work, label if label.endswith(f"/{name}") else f"{label}/{name}"))
    checkpoints = Checkpoints(url, job.higher_is_better)
    best = checkpoints.best()
    if best is None or best.quality is None:
        raise StepFailed("training ended without a checkpoint", where=url)
    made = build(spec.model, work.allowed, operations)
    with tempfile.TemporaryDirectory(prefix="hone-best-") as folder:
        checkpoints.export(best, Path(folder))
        found = load_file(Path(folder) / WEIGHTS)
    # What training added beside the model, such as projections and observers, is left behind.
    made.load_state_dict({key: found[key] for key in made.state_dict()})
    with contextlib.suppress(OSError):
        fs, root = fsspec.core.url_to_fs(url)
        fs.rm(root, recursive=True)
    return made.eval(), best.quality


def _under(work: Workspace[ModulePassSpec], prefix: str) -> Workspace[ModulePassSpec]:
    """The same workspace, whose metrics are told apart from those of other trainings."""
    report = work.report

    def told(event: Event) -> None:
        if isinstance(event, Metric):
            event = replace(event, name=f"{prefix}/{event.name}")
        report(event)

    return replace(work, report=told)
