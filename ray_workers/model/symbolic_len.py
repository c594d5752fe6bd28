"""`len(x)` of a tensor as a size that stays free while a model is exported.

Python lets `len` return nothing but a number, so `self.token.expand(len(x), -1, -1)` would fix the
batch to the size that the model is exported with. `x.shape[0]`, the same size, stays free.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_NAME = "len"


@contextlib.contextmanager
def free_sizes_by_len(model: torch.nn.Module) -> Iterator[None]:
    """Give the code of a model such a `len`: the modules of its classes, and what lies beside them.

    Args:
        model: A module whose forward pass is traced meanwhile.
    """
    changed = [m for m in _modules_of(model) if _NAME not in vars(m)]
    for module in changed:
        setattr(module, _NAME, _len)
    try:
        yield
    finally:
        for module in changed:
            delattr(module, _NAME)


def _len(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.ndim:
        return value.shape[0]
    return builtins.len(value)


def _modules_of(model: torch.nn.Module) -> list[ModuleType]:
    names = {type(module).__module__ for module in model.modules()}
    own = [m for n in names if (m := sys.modules.get(n)) is not None and not _is_torchs(n)]
    folders = {Path(file).parent for m in own if (file := getattr(m, "__file__", None))}
    beside = [
        m
        for n, m in list(sys.modules.items())
        if isinstance(file := getattr(m, "__file__", None), str)
        and not _is_torchs(n)
        and Path(file).parent in folders
    ]
    return list({id(m): m for m in (*own, *beside)}.values())


def _is_torchs(name: str) -> bool:
    return name.partition(".")[0] == "torch"
