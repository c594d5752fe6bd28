"""Costs of training: operations, memory, and the share of time spent on communication."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psutil
import torch
from torch import nn

from ..data.splits import SampleBatch
from ..model.flops import forward_flops


def flops_per_sample(model: nn.Module, samples: SampleBatch) -> float:
    """Floating-point operations of a forward and backward pass over one sample.

    The backward pass costs twice the forward pass. 0 if torch can't count the model.
    """
    return float(3 * forward_flops(model, samples.inputs) / samples.count)


def peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.1) -> float:
    """Operations per second of a large matrix product on this worker, with its current settings."""
    size = 4096 if device.type == "cuda" else 512
    a = torch.ones(size, size, device=device, dtype=dtype)

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            torch.mm(a, a)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once = run(1)
    once = min(once, run(1))
    count = max(1, int(seconds / max(once, 1e-6)))
    return 2.0 * size**3 * count / run(count)


def worker_memory(device: torch.device) -> float:
    """Memory of this worker (bytes): on its GPU, else of its process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(psutil.Process().memory_info().rss)


class CommunicationShare:
    """Profiles a few steps to measure the share of time with communication.

    Computation may overlap: 0.3 means that something was being sent for 0.3 of the time, not that
    0.3 was lost.

    Args:
        first: The first step to profile.
        steps: How many.
        enabled: Whether there are other workers.
    """

    def __init__(self, first: int, steps: int, enabled: bool) -> None:
        self._first = first
        self._last = first + steps
        self._enabled = enabled
        self._profiler: Any = None
        self._began = 0.0

    def at(self, step: int) -> float | None:
        """Call before each step; returns the share once it is known."""
        if not self._enabled:
            return None
        if step == self._first:
            self._began = time.perf_counter()
            self._profiler = torch.profiler.profile(activities=_activities())
            self._profiler.__enter__()
        elif step == self._last and self._profiler is not None:
            wall = time.perf_counter() - self._began
            profiler, self._profiler = self._profiler, None
            profiler.__exit__(None, None, None)
            return min(1.0, _union(profiler.events()) / 1e6 / wall)
        return None

    def close(self) -> None:
        """Stop profiling, if training ended during it."""
        if self._profiler is not None:
            profiler, self._profiler = self._profiler, None
            with contextlib.suppress(RuntimeError):
                profiler.__exit__(None, None, None)


def _activities() -> list[Any]:
    found = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        found.append(torch.profiler.ProfilerActivity.CUDA)
    return found


def _union(events: Any) -> float:
    """Microseconds in which at least one transfer ran."""
    spans = sorted(
        (e.time_range.start, e.time_range.end)
        for e in events
        if e.name.startswith(("gloo:", "nccl:", "ncclDevKernel", "ncclKernel"))
    )
    total, end = 0.0, float("-inf")
    for start, stop in spans:
        if stop > end:
            total += stop - max(start, end)
            end = stop
    return total
