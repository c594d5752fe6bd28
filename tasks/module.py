"""The trained torch module, from its factory and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_model
from torch import nn

from ..ray_workers.training.checkpoints import WEIGHTS
from ..recipe.errors import InputError
from ..recipe.factories import Allowed


def load_module(factory: dict[str, Any], allowed: Allowed, weights: Path) -> nn.Module:
    """Build the model and give it the weights of a folder; in evaluation mode.

    Raises:
        InputError: The factory failed, or the weights are not this model's.
    """
    model: nn.Module = allowed.call(factory["factory"], factory["args"], "model.factory")
    try:
        load_model(model, str(weights / WEIGHTS))
    except RuntimeError as error:
        raise InputError(
            f"the weights don't fit the model: {str(error).splitlines()[-1].strip()}",
            where="model.factory",
            do="does the factory build the same model each time?",
        ) from error
    model.eval()
    return model
