"""Weights that are computed from other parameters: weight norm, spectral norm, parametrizations.

Passes cut and change weights, so they work on the same model with plain parameters instead.
https://docs.pytorch.org/tutorials/intermediate/parametrizations.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook
from torch.nn.utils.weight_norm import WeightNorm

from ...recipe.errors import InputError


def computed_weights(model: nn.Module) -> tuple[str, ...]:
    """Names of the tensors of a model that it computes from others, each once."""
    return tuple(
        f"{name}.{tensor}" if name else tensor
        for name, module in model.named_modules()
        for tensor in _computed(module)
    )


def make_plain(model: nn.Module, names: Sequence[str]) -> None:
    """Make parameters of tensors that are computed, with the values that they have now, in place.

    Args:
        model: The model; in evaluation mode, in which spectral norms stay what they are.
        names: Of the tensors.

    Raises:
        InputError: A tensor is not there, or is not computed.
    """
    known = dict(model.named_modules())
    for name in names:
        owner, _, tensor = name.rpartition(".")
        module = known.get(owner)
        kind = _computed(module).get(tensor) if module is not None else None
        if module is None or kind is None:
            raise InputError(
                f"'{name}' of the compressed model was computed (weight norm), and that of the "
                "factory's is not",
                where="model.factory",
                do="does the factory build the same model each time?",
            )
        if isinstance(kind, WeightNorm):
            remove_weight_norm(module, tensor)
        elif isinstance(kind, SpectralNorm):
            remove_spectral_norm(module, tensor)
            _forget_loading(module, kind)
        else:
            parametrize.remove_parametrizations(module, tensor, leave_parametrized=True)


def _forget_loading(module: nn.Module, norm: SpectralNorm) -> None:
    """What torch 2.13 leaves behind: a hook that looks for the old tensors in weights to load."""
    hooks = module._load_state_dict_pre_hooks
    for key, hook in list(hooks.items()):
        inner = getattr(hook, "hook", hook)
        if isinstance(inner, SpectralNormLoadStateDictPreHook) and inner.fn is norm:
            del hooks[key]


def _computed(module: nn.Module) -> dict[str, Any]:
    """What computes each of a module's tensors."""
    found: dict[str, Any] = {}
    if parametrize.is_parametrized(module):
        found |= dict(module.parametrizations.items())
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm):
            found[hook.name] = hook
    return found
