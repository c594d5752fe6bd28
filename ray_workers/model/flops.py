"""Operations of a forward pass, as torch counts them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..data.calling import call_model


def forward_flops(model: nn.Module, inputs: Any) -> float:
    """Floating-point operations of a forward pass in evaluation mode; a multiply-add is two.

    0 if torch can't count the model.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call_model(model, inputs)
        return float(counter.get_total_flops())
    except (RuntimeError, NotImplementedError, TypeError):
        return 0.0
    finally:
        model.train(training)
