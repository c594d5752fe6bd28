"""Context parallel: each sequence is split over workers, with ring attention.

Liu et al., https://arxiv.org/abs/2310.01889, through torch's `context_parallel`, which replaces
scaled dot-product attention on CUDA. Parameters are replicated along this axis.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from ....recipe.errors import InputError
from ...data.targets import named_targets
from .axes import Axes

IMPLEMENT = (
    "attention must be torch's scaled_dot_product_attention; positions must be in a buffer that "
    "the model names in context_parallel_buffers() -> [(buffer, dim of the sequence), ...]"
)


def refuse_if_unable(device: torch.device) -> None:
    """Refuse a backend on which torch has no ring attention.

    Raises:
        InputError: With the reason.
    """
    if device.type != "cuda":
        raise InputError(
            f"context parallel attention of torch {torch.__version__} runs on CUDA only (flash, "
            f"memory-efficient and cuDNN attention); these workers compute on the "
            f"{device.type.upper()}",
            where="train.mesh.context",
            do="set context to 1 here, or give the workers GPUs (train.resources.gpus)",
        )


def dealt_out(model: nn.Module, axes: Axes, inputs: Any, target: Any) -> Any:
    """A context in which inputs, target and the model's sequence buffers are this worker's part.

    Raises:
        InputError: The inputs are not a tensor (B, T, ...), or the model doesn't name its buffers.
    """
    if axes["context"] == 1:
        return contextlib.nullcontext()
    from torch.distributed.tensor.experimental import context_parallel

    named = getattr(model, "context_parallel_buffers", None)
    if not isinstance(inputs, torch.Tensor) or inputs.ndim < 2 or not callable(named):
        raise InputError(
            f"a {type(model).__name__} can't be trained with its sequences split",
            where="train.mesh.context",
            do=IMPLEMENT,
        )
    targets = [value for _, value in named_targets(target)]
    buffers = [(inputs, 1), *((value, 1) for value in targets if value.ndim > 1), *named()]
    return context_parallel(
        axes.sub("context"),
        buffers=[buffer for buffer, _ in buffers],
        buffer_seq_dims=[dim for _, dim in buffers],
        no_restore_buffers={inputs, *targets},
    )
