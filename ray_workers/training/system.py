"""Load of the machine that rank 0 trains on, under the names MLflow's system tab shows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import psutil
import torch

Metric = Callable[[str, float, int], None]


class SystemMonitor:
    """Samples when told to: once an epoch."""

    def __init__(self, metric: Metric, enabled: bool) -> None:
        self._metric = metric
        self._enabled = enabled
        self._process = psutil.Process()

    def __enter__(self) -> SystemMonitor:
        psutil.cpu_percent()  # the first call starts the interval
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def sample(self, step: int) -> None:
        """The processor's load since the last call, and memory now (MB)."""
        if not self._enabled:
            return
        memory = psutil.virtual_memory()
        self._metric("system/cpu_utilization_percentage", psutil.cpu_percent(), step)
        self._metric("system/system_memory_usage_megabytes", memory.used / 1e6, step)
        self._metric("system/system_memory_usage_percentage", memory.percent, step)
        self._metric("system/worker_memory_megabytes", self._process.memory_info().rss / 1e6, step)
        if torch.cuda.is_available():
            used = torch.cuda.max_memory_allocated() / 1e6
            self._metric("system/gpu_0_memory_usage_megabytes", used, step)
            with contextlib.suppress(ModuleNotFoundError, RuntimeError):
                load = float(torch.cuda.utilization())
                self._metric("system/gpu_0_utilization_percentage", load, step)
