"""Copies of a model that stand for themselves, hooks included."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

import torch
from torch import nn

_M = TypeVar("_M", bound=nn.Module)


def copied(model: _M) -> _M:
    """A deep copy. Functions that belong to it (hooks, a replaced `forward`) refer to the copy, and
    activations that it keeps have no gradient.

    `copy.deepcopy` does not copy functions: a hook that keeps an activation in `self`, as a lambda
    or an inner function, would go on to keep it in the original.
    """
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in _values(module)
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    found = copy.deepcopy(model, memo)
    for module in found.modules():
        for holder, key, function in list(_functions(module)):
            holder[key] = _of_the_copy(function, memo)
    return found


def _values(module: nn.Module) -> Iterator[Any]:
    """A module's attributes, and what is in those that are containers."""
    for value in vars(module).values():
        if isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, tuple | list):
            yield from value
        else:
            yield value


def _functions(module: nn.Module) -> Iterator[tuple[MutableMapping[Any, Any], Any, Any]]:
    """The functions in a module's attributes, and where they are."""
    for name, value in vars(module).items():
        if isinstance(value, types.FunctionType):
            yield vars(module), name, value
        elif isinstance(value, MutableMapping):
            for key, one in value.items():
                if isinstance(one, types.FunctionType):
                    yield value, key, one


def _of_the_copy(value: Any, memo: Mapping[int, Any], depth: int = 4) -> Any:
    """What stands for a value in the copy: itself, if nothing of it was copied.

    Args:
        value: In the original.
        memo: What was copied, by the original's id.
        depth: How many functions within functions are looked at: they may refer to each other.
    """
    if id(value) in memo:
        return memo[id(value)]
    if not depth:
        return value
    if isinstance(value, types.MethodType) and id(value.__self__) in memo:
        return types.MethodType(value.__func__, memo[id(value.__self__)])
    if not isinstance(value, types.FunctionType):
        return value
    cells, defaults = value.__closure__ or (), value.__defaults__ or ()
    inside = [_content(cell) for cell in cells]
    given = [_of_the_copy(one, memo, depth - 1) for one in defaults]
    held = [one if one is value else _of_the_copy(one, memo, depth - 1) for one in inside]
    if all(a is b for a, b in zip((*inside, *defaults), (*held, *given), strict=True)):
        return value
    made = types.FunctionType(
        value.__code__,
        value.__globals__,
        value.__name__,
        tuple(given) or None,
        tuple(
            cell if old is new else types.CellType(new)
            for cell, old, new in zip(cells, inside, held, strict=True)
        ),
    )
    made.__kwdefaults__ = value.__kwdefaults__
    made.__dict__.update(value.__dict__)
    return made


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None
