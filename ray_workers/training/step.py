"""How one step runs forward and backward: over the whole model, or through a pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from ...recipe.errors import InputError
from ...recipe.training import Train
from ..data.calling import OUTPUT, chosen_output, main_first, main_output, outputs_for_loss
from ..data.targets import first_of, joined
from .losses import Counted
from .objectives import Objective
from .parallel import context
from .parallel.axes import Axes
from .parallel.parallelize import Placed

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class MicroBatch:
    """Samples on this worker's device.

    Attributes:
        inputs: A tensor (n, ...) or a dictionary of them.
        target: Of each sample (n, ...), or a dictionary or tuple of them.
        own: How many of the samples count; the last ones may be padding.
        weight: Factor of the mean loss.
    """

    inputs: Any
    target: Any
    own: int
    weight: float


class StepRunner(Protocol):
    """How a step is computed.

    Attributes:
        counted: How much counted in the last call: after `train`, in units in which a whole batch
            of equal samples has one a reader; after `evaluate`, in the unit of the summed loss.
    """

    @property
    def counted(self) -> torch.Tensor: ...

    def train(self, batches: Sequence[MicroBatch]) -> torch.Tensor:
        """Accumulate a step's gradients; returns the weighted loss of this worker's samples.

        The mean loss is the sum of the workers' losses over the sum of their `counted`, and the
        gradient has to be divided alike.
        """

    def evaluate(self, batches: Sequence[MicroBatch]) -> tuple[dict[str, torch.Tensor], float]:
        """Outputs of the samples that count by name, the main one first, and their summed loss.

        There are none where this worker has none, and one unless the metric gets all of them.
        """


def make_step_runner(
    placed: Placed,
    objective: Objective,
    spec: Train,
    axes: Axes,
    scaler: torch.amp.GradScaler,
    unit: float = 1.0,
    every_output: bool = False,
) -> StepRunner:
    """The step runner for a mesh.

    Args:
        placed: The model.
        objective: What is minimized.
        spec: The recipe's `train`.
        axes: This worker's place.
        scaler: Of the loss.
        unit: About how much a sample counts: sums are divided by it before the backward pass, so
            that gradients have about the size that they have in the end. The same on all workers.
        every_output: Whether the metric gets all outputs.
    """
    if axes["pipeline"] > 1:
        return _Pipelined(placed, objective, spec, axes, unit)
    return _Whole(placed, objective, spec, axes, scaler, unit, every_output)


class _Tally:
    """Losses of a call's micro-batches on one scale, and how much counted.

    Args:
        device: Of this worker.
        unit: What sums and counts are divided by.
    """

    def __init__(self, device: torch.device, unit: float = 1.0) -> None:
        self._unit = unit
        self._device = device
        self._found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def total(self) -> torch.Tensor:
        """The summed loss."""
        return self._summed(0)

    @property
    def counted(self) -> torch.Tensor:
        """How much counted."""
        return self._summed(1)

    def _summed(self, which: int) -> torch.Tensor:
        values = [pair[which] for pair in self._found.values()]
        return torch.stack(values).sum() if values else torch.zeros((), device=self._device)

    def add(
        self, index: int, found: torch.Tensor | Counted, own: int, weight: float
    ) -> torch.Tensor:
        """Count a micro-batch; returns its loss for the backward pass.

        Args:
            index: Which; a second call for it replaces the first.
            found: What the objective returned.
            own: How many samples count.
            weight: Factor of a mean over them.
        """
        if isinstance(found, Counted):
            scale = weight / own / self._unit if own else 0.0
            loss = found.total * scale
            count = torch.as_tensor(found.count, device=self._device).float() * scale
        else:
            loss, count = found * weight, torch.tensor(weight, device=self._device)
        self._found[index] = loss.detach().float(), count
        return loss


class _Whole:
    """Forward and backward, micro-batch after micro-batch; gradients are sent with the last."""

    def __init__(
        self,
        placed: Placed,
        objective: Objective,
        spec: Train,
        axes: Axes,
        scaler: torch.amp.GradScaler,
        unit: float,
        every_output: bool,
    ) -> None:
        self._every_output = every_output
        self._model = placed.callable
        self._part = placed.parts[0]
        self._objective = objective
        self._spec = spec
        self._axes = axes
        self._scaler = scaler
        self._unit = unit
        self.counted = torch.zeros(())

    def train(self, batches: Sequence[MicroBatch]) -> torch.Tensor:
        tally = _Tally(self._axes.device, self._unit)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            split = context.dealt_out(self._part, self._axes, batch.inputs, batch.target)
            with split, self._sending(last):
                with autocast(self._spec, self._axes):
                    outputs = self._outputs(batch.inputs)
                    found = self._objective(outputs, batch.inputs, batch.target)
                    loss = tally.add(index, found, batch.own, batch.weight)
                self._scaler.scale(loss).backward()
        self.counted = tally.counted
        return tally.total

    def _outputs(self, inputs: Any) -> Any:
        try:
            return outputs_for_loss(self._model, inputs, self._spec.loss_gets_all)
        except RuntimeError as error:
            if "finished reduction in the prior iteration" not in str(error):
                raise
            from .parallel.data import names_without_gradient

            names = names_without_gradient(self._model, error)
            raise InputError(
                f"some parameters get a gradient in some steps only: {names}",
                where="train.mesh.data",
                do="set train.parallel.data.find_unused to true",
            ) from error

    def evaluate(self, batches: Sequence[MicroBatch]) -> tuple[dict[str, torch.Tensor], float]:
        outputs, tally = [], _Tally(self._axes.device)
        every = self._spec.loss_gets_all
        for index, batch in enumerate(batches):
            with torch.no_grad(), autocast(self._spec, self._axes):
                found = outputs_for_loss(self._part, batch.inputs, every or self._every_output)
                chosen = chosen_output(self._part)
                named = main_first(found, chosen) if self._every_output else {
                    OUTPUT: main_output(found, chosen if every else None)}  # fmt: skip
                if batch.own:
                    given = found if every else next(iter(named.values()))
                    loss = self._objective(given, batch.inputs, batch.target)
                    tally.add(index, loss, batch.own, float(batch.own))
            outputs.append(first_of(named, batch.own))
        self.counted = tally.counted
        return joined(outputs), float(tally.total)

    @contextlib.contextmanager
    def _sending(self, last: bool) -> Any:
        if isinstance(self._model, DistributedDataParallel) and not last:
            with self._model.no_sync():
                yield
            return
        if isinstance(self._model, FSDPModule):
            self._model.set_requires_gradient_sync(last)
        yield


class _Pipelined:
    """Micro-batches through the stages; the last one computes the loss of each."""

    def __init__(
        self, placed: Placed, objective: Objective, spec: Train, axes: Axes, unit: float
    ) -> None:
        self._objective = objective
        self._spec = spec
        self._axes = axes
        self._unit = unit
        self._batches: Sequence[MicroBatch] = ()
        self._target: torch.Tensor | None = None
        self._tally = _Tally(axes.device)
        from .parallel.pipeline import make_schedule

        self._schedule = make_schedule(placed.parts, spec.parallel.pipeline, axes, self._loss)
        first = axes.at["pipeline"] == 0
        self._feeds, self._judges = first, axes.is_last_stage

    @property
    def counted(self) -> torch.Tensor:
        return self._tally.counted

    def train(self, batches: Sequence[MicroBatch]) -> torch.Tensor:
        self._tally = _Tally(self._axes.device, self._unit)
        self._run(self._schedule.step, batches)
        return self._tally.total

    def evaluate(self, batches: Sequence[MicroBatch]) -> tuple[dict[str, torch.Tensor], float]:
        unweighted = [MicroBatch(b.inputs, b.target, b.own, float(b.own)) for b in batches]
        self._tally = _Tally(self._axes.device)
        with torch.no_grad():
            merged = self._run(self._schedule.eval, unweighted)
        if merged is None:
            return {}, 0.0
        size = len(batches[0].target)
        own = [main_output(merged)[i * size : i * size + b.own] for i, b in enumerate(batches)]
        return {OUTPUT: torch.cat(own)}, float(self._tally.total)

    def _run(self, run: Any, batches: Sequence[MicroBatch]) -> Any:
        self._batches = batches
        inputs = [torch.cat([b.inputs for b in batches])] if self._feeds else []
        self._target = torch.cat([b.target for b in batches]) if self._judges else None
        with autocast(self._spec, self._axes):
            return run(*inputs, target=self._target, losses=[])

    def _loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of a micro-batch, identified by its target's offset in the whole batch's storage.

        The schedule also calls it with dummy outputs, to infer shapes, before the real ones.
        """
        whole = self._target
        if whole is None or target.is_meta or _memory(target) != _memory(whole):
            return outputs.float().sum() * 0.0
        index = target.storage_offset() // (len(target) * whole.stride(0))
        batch = self._batches[index]
        if not batch.own:
            return outputs.float().sum() * 0.0
        inputs = batch.inputs[: batch.own]
        found = self._objective(outputs[: batch.own], inputs, target[: batch.own])
        return self._tally.add(index, found, batch.own, batch.weight)


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def autocast(spec: Train, axes: Axes) -> Any:
    """The recipe's precision."""
    dtype = _AUTOCAST[spec.precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(axes.device.type, dtype)
