"""Memory that training will need on each worker, estimated before it starts.

Weights, gradients and optimizer state are computed from the parameters and the mesh; activations
are measured on a few samples: the bytes that autograd saves for the backward pass.
"""

from __future__ import annotations

import fnmatch
from typing import Any

import torch
from torch import nn

from ...recipe.errors import InputError
from ...recipe.factories import Allowed
from ...recipe.strict import Strict
from ...recipe.training import Train
from ..data.calling import call_model
from ..data.splits import SampleBatch
from .parallel.blocks import find_blocks


class Estimate(Strict):
    """Bytes on the worker that needs the most memory.

    Attributes:
        parameters: Of the whole model (a count).
        weights: Its shards of the weights, and the largest gathered block.
        gradients: Of its shards.
        optimizer: State of its shards, including an average of the weights.
        activations: Saved for the backward pass; 0 if they can't be measured.
    """

    parameters: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate(model: nn.Module, spec: Train, allowed: Allowed, samples: SampleBatch) -> Estimate:
    """Estimate one worker's memory.

    Args:
        model: The whole model.
        spec: How it is trained.
        allowed: Factories that may be called.
        samples: A few samples, to measure what is saved in their forward pass.
    """
    mesh = spec.mesh
    sizes = {name: p.numel() * p.element_size() for name, p in model.named_parameters()}
    split = _split_layers(model, spec, allowed)
    even = mesh.shard * mesh.pipeline
    local = sum(
        size / even / (mesh.tensor if name.rpartition(".")[0] in split else 1)
        for name, size in sizes.items()
    )
    gathered = 0.0
    if mesh.shard > 1:
        blocks = [_bytes(block) for block in find_blocks(model).values()]
        gathered = max(blocks, default=sum(sizes.values())) / mesh.tensor
    averaged = 1 if spec.ema is not None else 0
    each = _kept_for_backward(model, samples.inputs) / samples.count
    readers = mesh.data_range[0] * mesh.shard
    parts = spec.parallel.pipeline.microbatches if mesh.pipeline > 1 else spec.accumulate
    flying = min(parts, mesh.pipeline)  # micro-batches between forward and backward
    at_once = spec.batch_size / readers / parts * flying
    activations = int(each * at_once / mesh.pipeline / mesh.tensor / mesh.context)
    return Estimate(
        parameters=sum(p.numel() for p in model.parameters()),
        weights=int(local + gathered),
        gradients=int(local),
        optimizer=int(local * (spec.optimizer.states + averaged)),
        activations=activations,
    )


def _split_layers(model: nn.Module, spec: Train, allowed: Allowed) -> set[str]:
    if spec.mesh.tensor == 1:
        return set()
    from .parallel.tensor import plan_for

    plan = plan_for(model, spec.parallel.tensor, spec.mesh.tensor, allowed)
    names = [name for name, _ in model.named_modules()]
    return {n for n in names if any(fnmatch.fnmatchcase(n, p) for p in plan.styles)}


def _kept_for_backward(model: nn.Module, inputs: Any) -> int:
    """Bytes that autograd saves in a forward pass, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    training = model.training
    model.eval()  # no statistics are changed
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = call_model(model, inputs)
    except (RuntimeError, InputError):
        return 0
    finally:
        model.train(training)
    del outputs
    return sum(kept.values())


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())
