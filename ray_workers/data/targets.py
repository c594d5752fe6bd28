"""Targets of a batch: one tensor, or several in a dictionary or tuple.

Losses and metrics of the user's own get them as the data give them. Everything else looks at one,
the main target: the one that `data.target` names, or the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...recipe.errors import InputError, did_you_mean
from .calling import leaves, mapped

#: Name of a target that is one tensor; of the parts of a tuple: target_0, target_1.
TARGET = "target"


def as_targets(value: Any) -> Any:
    """What a collate function returned as targets, as tensors."""
    if isinstance(value, Mapping):
        return {str(name): as_targets(one) for name, one in value.items()}
    if isinstance(value, tuple | list) and any(map(_is_whole, value)):
        return tuple(map(as_targets, value))
    return None if value is None else torch.as_tensor(value)


def _is_whole(value: Any) -> bool:
    """Whether this is a target of a whole batch, not of one of its samples."""
    return isinstance(value, Mapping) or (isinstance(value, torch.Tensor) and value.ndim > 0)


def named_targets(target: Any) -> Iterator[tuple[str, Any]]:
    """The targets of a batch or a sample by their names; None is left out."""
    return ((name, value) for name, value in leaves(target, TARGET) if value is not None)


def main_target(target: Any, chosen: str | None = None) -> torch.Tensor:
    """The target that named losses and metrics look at.

    Args:
        target: Of a batch.
        chosen: Its name; None: the first.

    Raises:
        InputError: There is none of this name.
    """
    if isinstance(target, torch.Tensor) and chosen in (None, TARGET):
        return target
    named = dict(named_targets(target))
    if not named:
        raise InputError("the samples have no target", where="data.factory")
    if chosen is None:
        return next(iter(named.values()))
    if chosen not in named:
        raise InputError(
            f"the data have no target '{chosen}': {did_you_mean(chosen, list(named))}",
            where="data.target",
        )
    found: torch.Tensor = named[chosen]
    return found


def first_of(target: Any, count: int) -> Any:
    """The targets of the first samples."""
    return mapped(target, lambda value: value[:count])


def joined(targets: Sequence[Any]) -> Any:
    """The targets of several batches as those of one."""
    first = targets[0]
    if isinstance(first, Mapping):
        return {name: joined([one[name] for one in targets]) for name in first}
    if isinstance(first, tuple):
        return tuple(joined(parts) for parts in zip(*targets, strict=True))
    return None if first is None else torch.cat([*targets])


def as_arrays(target: Any) -> Any:
    """The targets as numpy arrays, in the same form."""
    return mapped(target, lambda value: np.asarray(value.detach().cpu()))
