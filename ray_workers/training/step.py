"""How one step runs forward and backward: over the whole model, or through a pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from ...recipe.training import Train
from ..data.calling import call_model, main_output
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
        target: Of each sample (n, ...).
        own: How many of the samples count; the last ones may be padding.
        weight: Factor of the mean loss.
    """

    inputs: Any
    target: torch.Tensor
    own: int
    weight: float


class StepRunner(Protocol):
    """How a step is computed."""

    def train(self, batches: Sequence[MicroBatch]) -> torch.Tensor:
        """Accumulate a step's gradients; returns the weighted loss of this worker's samples."""

    def evaluate(self, batches: Sequence[MicroBatch]) -> tuple[torch.Tensor | None, float]:
        """Outputs of the samples that count, if this worker has them, and their summed loss."""


def make_step_runner(
    placed: Placed, objective: Objective, spec: Train, axes: Axes, scaler: torch.amp.GradScaler
) -> StepRunner:
    """The step runner for a mesh."""
    if axes["pipeline"] > 1:
        return _Pipelined(placed, objective, spec, axes)
    return _Whole(placed, objective, spec, axes, scaler)


class _Whole:
    """Forward and backward, micro-batch after micro-batch; gradients are sent with the last."""

    def __init__(
        self,
        placed: Placed,
        objective: Objective,
        spec: Train,
        axes: Axes,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self._model = placed.callable
        self._part = placed.parts[0]
        self._objective = objective
        self._spec = spec
        self._axes = axes
        self._scaler = scaler

    def train(self, batches: Sequence[MicroBatch]) -> torch.Tensor:
        total = torch.zeros((), device=self._axes.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            split = context.dealt_out(self._part, self._axes, batch.inputs, batch.target)
            with split, self._sending(last):
                with autocast(self._spec, self._axes):
                    outputs = call_model(self._model, batch.inputs)
                    loss = self._objective(outputs, batch.inputs, batch.target) * batch.weight
                self._scaler.scale(loss).backward()
            total += loss.detach()
        return total

    def evaluate(self, batches: Sequence[MicroBatch]) -> tuple[torch.Tensor | None, float]:
        outputs, total = [], 0.0
        for batch in batches:
            with torch.no_grad(), autocast(self._spec, self._axes):
                found = call_model(self._part, batch.inputs)
                if batch.own:
                    loss = self._objective(found, batch.inputs, batch.target)
                    total += float(loss) * batch.own
            outputs.append(found[: batch.own])
        return torch.cat(outputs), total

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

    def __init__(self, placed: Placed, objective: Objective, spec: Train, axes: Axes) -> None:
        self._objective = objective
        self._spec = spec
        self._axes = axes
        self._batches: Sequence[MicroBatch] = ()
        self._target: torch.Tensor | None = None
        from .parallel.pipeline import make_schedule

        self._schedule = make_schedule(placed.parts, spec.parallel.pipeline, axes, self._loss)
        first = axes.at["pipeline"] == 0
        self._feeds, self._judges = first, axes.is_last_stage

    def train(self, batches: Sequence[MicroBatch]) -> torch.Tensor:
        losses: list[torch.Tensor] = []
        self._run(self._schedule.step, batches, losses)
        if not losses:
            return torch.zeros((), device=self._axes.device)
        return torch.stack([loss.detach() for loss in losses]).sum()

    def evaluate(self, batches: Sequence[MicroBatch]) -> tuple[torch.Tensor | None, float]:
        unweighted = [MicroBatch(b.inputs, b.target, b.own, float(b.own)) for b in batches]
        losses: list[torch.Tensor] = []
        with torch.no_grad():
            merged = self._run(self._schedule.eval, unweighted, losses)
        if merged is None:
            return None, 0.0
        size = len(batches[0].target)
        own = [main_output(merged)[i * size : i * size + b.own] for i, b in enumerate(batches)]
        return torch.cat(own), float(sum(float(loss) for loss in losses))

    def _run(self, run: Any, batches: Sequence[MicroBatch], losses: list[torch.Tensor]) -> Any:
        self._batches = batches
        inputs = [torch.cat([b.inputs for b in batches])] if self._feeds else []
        self._target = torch.cat([b.target for b in batches]) if self._judges else None
        with autocast(self._spec, self._axes):
            return run(*inputs, target=self._target, losses=losses)

    def _loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of a micro-batch, identified by its target's offset in the whole batch's storage.

        The schedule also calls it with dummy tensors, to infer shapes; they are not in the batch.
        """
        whole = self._target
        if whole is None or target.is_meta or _memory(target) != _memory(whole):
            return outputs.float().sum() * 0.0
        batch = self._batches[target.storage_offset() // (len(target) * whole.stride(0))]
        if not batch.own:
            return outputs.float().sum() * 0.0
        inputs = batch.inputs[: batch.own]
        loss = self._objective(outputs[: batch.own], inputs, target[: batch.own])
        return loss * batch.weight


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def autocast(spec: Train, axes: Axes) -> Any:
    """The recipe's precision."""
    dtype = _AUTOCAST[spec.precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(axes.device.type, dtype)
