"""Finds the silent broadcast of outputs (N, 1) against targets (N,) in a loss of the user's own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ...recipe.errors import InputError
from ..data.calling import in_form, named_outputs
from ..data.targets import named_targets
from .losses import Loss


def refuse_broadcast(loss: Loss, name: str, outputs: Any, targets: Any) -> None:
    """Refuse a loss that compares every output with every target.

    Args:
        loss: The loss.
        name: Its name in the recipe.
        outputs: What the loss gets of a batch of several samples.
        targets: Of the same.

    Raises:
        InputError: It does.
    """
    each = named_outputs(outputs)
    odd = [(one, other) for one in each.values() for _, other in named_targets(targets)
           if _differ_by_one(one, other) or _differ_by_one(other, one)]  # fmt: skip
    if not odd:
        return
    own = {name: one.detach().requires_grad_(one.is_floating_point()) for name, one in each.items()}
    with torch.enable_grad(), _Watch() as watch:
        loss(in_form(outputs, own), targets)
    if watch.found is not None:
        raise InputError(
            f"the loss compares every output with every target: outputs {tuple(odd[0][0].shape)} "
            f"and targets {tuple(odd[0][1].shape)} are broadcast to {tuple(watch.found)}",
            where=f"train.loss: {name}",
            do="give both one shape, for example by outputs.squeeze(-1)",
        )


def _differ_by_one(wide: torch.Tensor, narrow: torch.Tensor) -> bool:
    """Whether shapes are (..., N, 1) and (..., N)."""
    return bool(wide.shape[-1:] == (1,) and wide.shape[:-1] == narrow.shape and narrow.numel() > 1)


#: Reduce what they broadcast before anyone sees it.
_REDUCING = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss)


class _Watch(TorchFunctionMode):
    """Looks for an operation on two tensors that broadcasts (N, 1) against (N,).

    Attributes:
        found: Shape of what it makes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: torch.Size | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        named = (kwargs or {}).values()
        given = [a for a in (*args, *named) if isinstance(a, torch.Tensor)]
        if len(given) >= 2 and isinstance(made, torch.Tensor):
            one, other = given[:2]
            of_both = one.requires_grad != other.requires_grad
            if of_both and (_differ_by_one(one, other) or _differ_by_one(other, one)):
                shape = torch.broadcast_shapes(one.shape, other.shape)
                if made.shape == shape or func in _REDUCING:
                    self.found = shape
        return made
