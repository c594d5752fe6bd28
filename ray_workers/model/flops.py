"""Operations of a forward pass, as torch counts them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..data.calling import call_model


class _Everywhere:
    """Instead of torch's `ModuleTracker`, whose hooks fail where a layer is called with a parameter
    (DeBERTa's relative positions); which layer computes is not asked.
    """

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def forward_flops(model: nn.Module, inputs: Any) -> float:
    """Floating-point operations of a forward pass in evaluation mode; a multiply-add is two.

    0 if torch can't count the model.
    """
    training = model.training
    model.eval()
    try:
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = _Everywhere()
        with torch.no_grad(), counter:
            call_model(model, inputs)
        return float(counter.get_total_flops())
    except Exception:  # a count is not worth a run; what else is wrong is told elsewhere
        return 0.0
    finally:
        model.train(training)
