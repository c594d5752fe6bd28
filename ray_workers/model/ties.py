"""Tied tensors: one parameter or buffer that a model has under several names.

Files and checkpoints keep a tied tensor once, under the first of its names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def aliases(model: nn.Module) -> dict[str, str]:
    """The other names of tied parameters and buffers, each with the first name of its tensor."""
    first: dict[Any, str] = {}
    found: dict[str, str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, torch.Tensor):
            known = first.setdefault(_identity(value), name)
            if known != name:
                found[name] = known
    return found


def _identity(value: torch.Tensor) -> Any:
    """The same for two tensors exactly if they are the same numbers in the same memory."""
    plain = type(value) in (torch.Tensor, nn.Parameter)
    if not plain or value.is_meta or value.numel() == 0:
        return id(value)
    return value.data_ptr(), value.shape, value.stride(), value.dtype, value.device


def save_tensors(model: nn.Module, file: Path) -> None:
    """Write a module's parameters and buffers, tied ones once."""
    others = aliases(model)
    state = model.state_dict()
    kept = {name: value for name, value in state.items() if name not in others}
    save_file({name: _own_memory(value) for name, value in kept.items()}, str(file))


def _own_memory(value: torch.Tensor) -> torch.Tensor:
    """The same numbers in memory that no other tensor shares, as safetensors requires."""
    whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value.contiguous() if whole else value.clone(memory_format=torch.contiguous_format)


def load_tensors(model: nn.Module, file: Path) -> None:
    """Load a module's parameters and buffers; a tied one may have any of its names, or all.

    Raises:
        RuntimeError: The tensors are not this module's; in the words of `load_state_dict`.
        ValueError: The file has different numbers for what the module ties.
    """
    state = _without_wrapper(load_file(str(file)), model)
    others = aliases(model)
    _refuse_untied(state, others)
    missing, unexpected = model.load_state_dict(_with_versions(state, model), strict=False)
    there = {others.get(name, name) for name in state}
    missing = [name for name in missing if others.get(name, name) not in there]
    lists = (("Missing", missing), ("Unexpected", unexpected))
    said = [
        f"{kind} key(s) in state_dict: " + ", ".join(f'"{name}"' for name in sorted(names))
        for kind, names in lists
        if names
    ]
    if said:
        raise RuntimeError(f"Error(s) in loading state_dict:\n    {'; '.join(said)}")


def _without_wrapper(state: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Without the prefix of a wrapper that the tensors were saved with: `module.` (data parallel),
    `_orig_mod.` (torch.compile), `model.` (Lightning). The names without it must be the model's.
    """
    known, short = set(model.state_dict()), {name: name for name in state}
    while set(short.values()) - known:
        wrappers = {name.partition(".")[0] for name in short.values() if "." in name}
        if len(wrappers) != 1 or not all("." in name for name in short.values()):
            return state
        short = {name: inner.partition(".")[2] for name, inner in short.items()}
    return {short[name]: value for name, value in state.items()}


def take_from(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load a module's parameters and buffers from weights that may hold more, tied ones once,
    under any of their names: an exported module may have these in another order.
    """
    others = aliases(model)
    there = {others.get(name, name): value for name, value in weights.items()}
    taken = {name: there[others.get(name, name)] for name in model.state_dict()}
    model.load_state_dict(_with_versions(taken, model))


def _with_versions(state: Mapping[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """A state as the module's own classes write it: with the version of each.

    A file of tensors has no versions, and a class that asks for one, as torchvision's MNASNet does,
    refuses a state without. torch's own classes then read it as an old one, which may lack what
    they have had since.
    """
    versioned: OrderedDict[str, torch.Tensor] = OrderedDict(state)
    versioned._metadata = {  # type: ignore[attr-defined]
        name: {"version": module._version}
        for name, module in model.named_modules(remove_duplicate=False)
        if not type(module).__module__.startswith("torch.")
    }
    return versioned


def _refuse_untied(state: Mapping[str, torch.Tensor], others: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for name, value in state.items():
        known = seen.setdefault(others.get(name, name), name)
        if known != name and not torch.equal(value, state[known]):
            raise ValueError(
                f"the model ties '{known}' and '{name}', and the file has different numbers for "
                "them"
            )


def tied_parameters(model: nn.Module) -> list[list[str]]:
    """The names of each tied parameter, for those that have several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def replace_parameter(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Put a parameter at a name."""
    owner, _, attribute = name.rpartition(".")
    model.get_submodule(owner)._parameters[attribute] = parameter
