"""Load of the machine that rank 0 trains on, under the names MLflow's system tab shows."""

from __future__ import annotations

import contextlib

import psutil
import torch

from .measure import worker_memory
from .parallel.axes import Axes


class SystemMonitor:
    """Samples on request: once per epoch."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        psutil.cpu_percent()  # the first call starts the interval

    def memory(self) -> str:
        """Memory of this worker, as text."""
        return f"{worker_memory(self._axes.device) / 2**30:.2f} GiB"

    def sample(self) -> dict[str, float]:
        """The processor's load since the last call, and memory now (MB); every worker calls it.

        Includes the memory of the worker that uses the most.
        """
        held = self._axes.gather(worker_memory(self._axes.device))
        memory = psutil.virtual_memory()
        found = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": memory.used / 1e6,
            "system/system_memory_usage_percentage": memory.percent,
            "system/worker_memory_megabytes": max(held) / 1e6,
        }
        if torch.cuda.is_available():
            found["system/gpu_0_memory_usage_megabytes"] = held[0] / 1e6
            with contextlib.suppress(ModuleNotFoundError, RuntimeError):
                found["system/gpu_0_utilization_percentage"] = float(torch.cuda.utilization())
        return found
