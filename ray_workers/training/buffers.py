"""A model's own state under data parallelism: buffers that its forward pass changes in training.

Each worker changes them by its part of a batch. After each step they are averaged over the workers
by how many samples each had, which is exact for whatever is linear in the batch's mean, such as
running means; other workers' batches enter a variance by its mean.
"""

from __future__ import annotations

import torch

from .parallel.axes import Axes
from .parallel.parallelize import Placed

_READERS = ("data", "shard")


class SharedBuffers:
    """Keeps buffers the same on all readers.

    Args:
        placed: The model.
        axes: This worker's place.
    """

    def __init__(self, placed: Placed, axes: Axes) -> None:
        self._placed = placed
        self._axes = axes
        self._names: list[str] | None = None
        self._before = {n: b.detach().clone() for n, b in self._buffers().items()}

    def find_changing(self) -> None:
        """See which ones have changed since the start; every worker calls it."""
        if self._axes.readers == 1:
            return
        now = self._buffers()
        changed = [n for n, old in self._before.items() if n in now and not _same(now[n], old)]
        everywhere = {name for names in self._axes.gather(changed) for name in names}
        self._names = sorted(everywhere & set(now))

    def average(self, own: int) -> None:
        """Average what changes; every worker calls it, after each step.

        Args:
            own: Samples that this reader had in the step.
        """
        if self._axes.readers == 1:
            return
        if self._names is None:
            self.find_changing()
        if not self._names:
            return
        now = self._buffers()
        device = self._axes.device
        floats = [now[n] for n in self._names if now[n].is_floating_point()]
        others = [now[n] for n in self._names if not now[n].is_floating_point()]
        if floats:
            flat = [b.detach().to(device, torch.float64).flatten() * own for b in floats]
            count = torch.full((1,), float(own), device=device, dtype=torch.float64)
            summed = self._axes.sum(torch.cat([*flat, count]), *_READERS)
            _spread(summed[:-1] / summed[-1].clamp(min=1), floats)
        if others:  # counters: the first reader's
            first = int(self._axes.reader == 0)
            numbers = [b.detach().to(device, torch.int64).flatten() * first for b in others]
            _spread(self._axes.sum(torch.cat(numbers), *_READERS), others)

    def _buffers(self) -> dict[str, torch.Tensor]:
        return {
            name: buffer
            for part in self._placed.parts
            for name, buffer in part.named_buffers()
            if not buffer.is_complex()
        }


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(one.shape == other.shape and torch.equal(one.detach(), other.to(one.device)))


def _spread(flat: torch.Tensor, buffers: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for part, buffer in zip(flat.split([b.numel() for b in buffers]), buffers, strict=True):
            buffer.copy_(part.view(buffer.shape).to(buffer.dtype))
