"""Models that a factory keeps: a global, or one behind functools.cache.

Steps run in processes that live on. They train, prune and convert what the factory returns, so the
next step must not get the same object.
"""

from __future__ import annotations

import functools
import gc
import sys
from typing import Any
from weakref import WeakSet

from torch import nn

from ...recipe.errors import InputError
from ...recipe.library_messages import telling
from .copies import copied

_DO = "build the model anew at each call of the factory"
_given: WeakSet[nn.Module] = WeakSet()


def own_copy(model: nn.Module, where: str) -> nn.Module:
    """The model; a copy if a module's globals or a cache keep it.

    Args:
        model: What the factory returned.
        where: What an error calls the factory.

    Raises:
        InputError: It was returned before and may have been changed, or can't be copied.
    """
    if model in _given:
        raise InputError(
            "the factory returns the same model at each call, which a step before may have changed",
            where=where,
            do=_DO,
        )
    if _is_kept(model):
        try:
            model = copied(model)
        except Exception as error:
            raise InputError(
                f"the factory keeps its model, which can't be copied: {telling(error)}",
                where=where,
                do=_DO,
            ) from error
    _given.add(model)
    return model


def _is_kept(model: nn.Module) -> bool:
    """Whether a global, a container in one, or a cache of functools holds the model."""
    spaces = {
        id(vars(module)) for module in list(sys.modules.values()) if hasattr(module, "__dict__")
    }

    def keeps(holder: Any) -> bool:
        return id(holder) in spaces or isinstance(holder, functools._lru_cache_wrapper)

    for holder in gc.get_referrers(model):
        if keeps(holder):
            return True
        if isinstance(holder, dict | list | tuple) and any(map(keeps, gc.get_referrers(holder))):
            return True
    return False
