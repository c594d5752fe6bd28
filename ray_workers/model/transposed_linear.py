"""transformers' `Conv1D`: a linear layer with its weight transposed, as GPT-2's models have it.

No pass knows it. Passes work on the same model with `nn.Linear` in its place.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import nn

from ...recipe.errors import InputError


def transposed_layers(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers of a model that are such, each layer once."""
    library = sys.modules.get("transformers.pytorch_utils")
    if library is None:  # nobody has made one
        return ()
    return tuple(n for n, module in model.named_modules() if isinstance(module, library.Conv1D))


def make_linear(model: nn.Module, names: Sequence[str]) -> None:
    """Replace layers by linear ones that compute the same, in place, everywhere they are used.

    Args:
        model: The model.
        names: Of layers whose `weight` is (in, out), with a `bias`.

    Raises:
        InputError: A layer is not there, or is another one.
    """
    known = dict(model.named_modules())
    made: dict[nn.Module, nn.Linear] = {}
    for name in names:
        layer = known.get(name)
        weight = getattr(layer, "weight", None)
        if layer is None or not name or not isinstance(weight, torch.Tensor) or weight.ndim != 2:
            raise InputError(
                f"the compressed model has a linear layer '{name}', and the factory's has none",
                where="model.factory",
                do="does the factory build the same model each time?",
            )
        made[layer] = _linear(weight, getattr(layer, "bias", None))
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if layer in made:
            parent, _, key = name.rpartition(".")
            setattr(model.get_submodule(parent), key, made[layer])


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(*weight.shape, bias=bias is not None, dtype=weight.dtype, device="meta")
    layer.weight = nn.Parameter(weight.detach().t().contiguous(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), bias.requires_grad)
    return layer
