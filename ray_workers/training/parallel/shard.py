"""Fully sharded: parameters, gradients and optimizer state are split, block by block.

FSDP2 (`fully_shard`, https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html; after
ZeRO-3, Rajbhandari et al., https://arxiv.org/abs/1910.02054). With the axis `data` beside it,
shards are replicated (hybrid sharding). Without `shard`, the same machinery replicates a model
that other axes have split already.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from ....recipe.parallel import Sharding
from ...torch_private import flatten, replicate
from .axes import Axes
from .blocks import find_blocks

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def shard(part: nn.Module, axes: Axes, spec: Sharding) -> None:
    """Shard a model, or one pipeline stage of it, in place: each block, then the rest."""
    options: dict[str, Any] = {
        "mesh": _mesh(axes),
        "reshard_after_forward": spec.reshard_after_forward,
        "mp_policy": _precision(spec),
        "offload_policy": CPUOffloadPolicy() if spec.cpu_offload else OffloadPolicy(),
    }
    for block in _separable(part):
        fully_shard(block, **options)
    fully_shard(part, **options)


def replicate_sharded(part: nn.Module, axes: Axes, spec: Sharding) -> None:
    """Average over `data` the gradients of a model that `tensor` or `pipeline` has split."""
    options: dict[str, Any] = {"mesh": axes.sub("data"), "mp_policy": _precision(spec)}
    replicate_split = replicate()
    for block in _separable(part):
        replicate_split(block, **options)
    replicate_split(part, **options)


def _separable(part: nn.Module) -> list[nn.Module]:
    """The blocks that share no parameter with the rest of the model, each once.

    A parameter that is sharded with one block would no longer be the one that another part has.
    """
    blocks = {id(block): block for block in find_blocks(part).values()}
    owners: dict[int, set[int]] = {}
    for module in part.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(module))
    return [block for block in blocks.values() if not _shares(block, owners)]


def _shares(block: nn.Module, owners: dict[int, set[int]]) -> bool:
    inner = {id(module) for module in block.modules()}
    return any(owners[id(parameter)] - inner for parameter in block.parameters())


def _mesh(axes: Axes) -> DeviceMesh:
    """The mesh of the shards, with `context` included: its workers have other tokens."""
    if axes["context"] > 1:
        flat = flatten(axes.sub("shard", "context"), "shard_context")
        return axes.sub("data", "shard_context") if axes["data"] > 1 else flat
    return axes.sub("data", "shard") if axes["data"] > 1 else axes.sub("shard")


def _precision(spec: Sharding) -> MixedPrecisionPolicy:
    return MixedPrecisionPolicy(
        param_dtype=None if spec.compute == "fp32" else _DTYPES[spec.compute],
        reduce_dtype=_DTYPES[spec.reduce],
        output_dtype=None if spec.compute == "fp32" else torch.float32,
    )
