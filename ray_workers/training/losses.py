"""Losses by name: the mean over the batch, with an explanation if shapes don't fit."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...recipe.errors import InputError
from ...recipe.factories import Allowed, raised, users_line
from ...recipe.library_messages import telling

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_loss(name: str, allowed: Allowed, label_smoothing: float = 0.0) -> Loss:
    """The loss of a recipe: one of Hone's names, or the import path of your own function.

    Returns:
        A function of outputs and targets that returns a scalar: the mean over the batch.

    Raises:
        InputError: The import path does not resolve; on a call: the shapes don't fit.
    """
    function: Loss = allowed.resolve(name, "train.loss") if ":" in name else _NAMED[name]
    if label_smoothing:
        function = functools.partial(_cross_entropy, label_smoothing=label_smoothing)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        try:
            value = function(outputs, targets)
        except Exception as error:
            if ":" in name and users_line(error) is not None:
                raise raised("the loss", error, f"train.loss: {name}") from error
            if not isinstance(error, RuntimeError | ValueError | IndexError | TypeError):
                raise
            raise InputError(
                f"the loss '{name}' can't take the model's output: {telling(error)}. "
                f"Output: shape {_shape(outputs)}, {outputs.dtype}; target: shape "
                f"{_shape(targets)}, {targets.dtype}{_range(targets)}",
                where="train.loss",
                do=_EXPECTS.get(name, "make the model's output and the target fit the loss"),
            ) from error
        if not isinstance(value, torch.Tensor) or value.ndim != 0:
            raise InputError(
                f"the loss returned {_described(value)}, expected a scalar tensor",
                where=f"train.loss: {name}",
                do="return the mean over the batch",
            )
        return value

    return loss


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {_shape(value)}"
    return f"a {type(value).__name__}"


def _shape(tensor: torch.Tensor) -> str:
    return str(tuple(tensor.shape))


def _range(targets: torch.Tensor) -> str:
    if targets.is_floating_point() or targets.numel() == 0:
        return ""
    return f", values {int(targets.min())} to {int(targets.max())}"


def _same_shape(function: Loss) -> Loss:
    """Without the silent broadcast of (N, 1) against (N,)."""

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if outputs.shape != targets.shape:
            raise ValueError("output and target differ in shape")
        return function(outputs, targets.to(outputs.dtype))

    return loss


def _cross_entropy(
    outputs: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Classes along axis 1, as in torch; for sequences (N, T, C) with targets (N, T), last."""
    if outputs.ndim == 3 and targets.shape == outputs.shape[:2]:
        outputs, targets = outputs.flatten(0, 1), targets.flatten()
    return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)


_NAMED: dict[str, Loss] = {
    "cross_entropy": _cross_entropy,
    "mse": _same_shape(F.mse_loss),
    "l1": _same_shape(F.l1_loss),
    "huber": _same_shape(F.huber_loss),
    "bce_with_logits": _same_shape(F.binary_cross_entropy_with_logits),
}
_EXPECTS = {
    "cross_entropy": "it takes logits (N, classes) and integer targets (N,) below the number of "
    "classes, or of sequences (N, T, classes) and (N, T)",
    **dict.fromkeys(
        ("mse", "l1", "huber", "bce_with_logits"), "it takes an output and a target of one shape"
    ),
}
