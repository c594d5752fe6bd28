"""Activation checkpointing: blocks recompute their activations in the backward pass.

Chen et al., https://arxiv.org/abs/1604.06174. Selective: results of matrix products are saved, and
everything cheaper is recomputed (Korthikanti et al., https://arxiv.org/abs/2205.05198).
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from ...torch_private import attention_operators

_aten: Any = torch.ops.aten
_KEPT = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.convolution.default,
    *attention_operators(),
}


def recompute(block: nn.Module, mode: Literal["selective", "full"]) -> None:
    """Make a block recompute, in place; its name and its parameters' names don't change."""
    options: dict[str, Any] = {"use_reentrant": False}
    if mode == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    block.forward = functools.partial(checkpoint, block.forward, **options)


def _policy(_context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    if operator in _KEPT:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
