"""An exponential moving average of the weights (Polyak and Juditsky, 1992), sharded as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn


class Ema:
    """Averages of the floating-point parameters and buffers of this worker's parts.

    Args:
        parts: The parts.
        decay: Weight of the old average at each step.
        aliases: Other names of tied tensors, each with the first one.
    """

    def __init__(
        self, parts: Sequence[nn.Module], decay: float, aliases: Mapping[str, str] | None = None
    ) -> None:
        self._parts = parts
        self._aliases = aliases or {}
        self.decay = decay
        self.values: dict[str, torch.Tensor] = {
            name: value.detach().clone() for name, value in self._live().items()
        }

    def update(self, step: int) -> None:
        """Update the average with a step's weights; it warms up over the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in self._live().items():
            self.values[name].lerp_(value.detach(), 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """A context with the averages as the model's weights."""
        own = {name: value.detach().clone() for name, value in self._live().items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(own)

    def _put(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._live().items():
                value.copy_(values[name])

    def _live(self) -> dict[str, torch.Tensor]:
        return {
            self._aliases.get(name, name): value
            for part in self._parts
            for name, value in part.state_dict(keep_vars=True).items()
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        }
