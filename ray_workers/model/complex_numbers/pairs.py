"""What rules for complex numbers are made of: pairs of real tensors, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


class NoRealForm(Exception):
    """An operator is not known for complex numbers.

    Attributes:
        place: The lines that it comes from, as a traceback has them.
    """

    place = ""


@dataclass(frozen=True)
class Pair:
    """A complex tensor.

    Attributes:
        re: Its real part.
        im: Its imaginary part, of the same shape.
    """

    re: torch.Tensor
    im: torch.Tensor


class Constants:
    """Constants that operators need, kept as buffers of the module that is run.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._wanted: dict[str, Callable[[], torch.Tensor]] = {}

    def __call__(
        self, name: str, shape: Sequence[int], make: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """The one of this name; before it was made, a tensor of its shape."""
        if name in self._module._buffers:
            return self._module.get_buffer(name)
        self._wanted[name] = make
        return torch.zeros(shape)

    def make(self) -> bool:
        """Make those that were asked for; whether there were any."""
        for name, make in self._wanted.items():
            self._module.register_buffer(name, make())
        made = bool(self._wanted)
        self._wanted.clear()
        return made


@dataclass(frozen=True)
class Op:
    """An operator that is applied to complex numbers.

    Attributes:
        target: The operator.
        constant: Gives a constant by its name, and keeps it with the module.
    """

    target: Any
    constant: Constants

    @property
    def packet(self) -> Any:
        """The operator, whichever its arguments."""
        return getattr(self.target, "overloadpacket", self.target)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.target(*args, **kwargs)

    def __str__(self) -> str:
        return str(self.target)


#: How an operator is computed: called with an `Op` and its arguments.
RULES: dict[Any, Callable[..., Any]] = {}


def rule(*of: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register how some operators are computed."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(of, function))
        return function

    return register


def packets(*names: str) -> list[Any]:
    """The operators of these names that this version of torch has."""
    return [found for name in names if (found := getattr(torch.ops.aten, name, None)) is not None]


def pair_of(value: Any, like: torch.Tensor | None = None) -> Pair:
    """A number or a real tensor as a complex one."""
    if isinstance(value, Pair):
        return value
    if isinstance(value, torch.Tensor):
        value = value if value.is_floating_point() or like is None else value.to(like.dtype)
        return Pair(value, torch.zeros_like(value))
    re, im = (value.real, value.imag) if isinstance(value, complex) else (value, 0.0)
    dtype = torch.get_default_dtype() if like is None else like.dtype
    device = None if like is None else like.device
    return Pair(
        torch.full((), re, dtype=dtype, device=device),
        torch.full((), im, dtype=dtype, device=device),
    )
