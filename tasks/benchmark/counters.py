"""Counters of the machine that a benchmark reads: energy, and the memory of GPUs.

Energy is what the processor packages and the GPUs take as a whole, other work and idling included.
So it is read only around calls that are timed, while nothing else of Hone's runs. The sources are
Linux's RAPL (https://docs.kernel.org/power/powercap/powercap.html), which usually only root may
read, and NVML, where the package nvidia-ml-py is installed. Without one there is no number.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Where Linux shows energy counters.
POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Reads the energy that the machine has taken.

    Args:
        folder: Linux's power capping framework.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._packages = [_Package(path) for path in sorted(_packages(folder))]
        self._packages = [package for package in self._packages if package.works]

    @property
    def works(self) -> bool:
        """Whether a counter can be read."""
        return bool(self._packages) or _gpu_joules() is not None

    def joules(self) -> float | None:
        """Energy taken so far, from an arbitrary start (J); None without a counter."""
        counted = [package.joules() for package in self._packages]
        if (gpu := _gpu_joules()) is not None:
            counted.append(gpu)
        return sum(counted) if counted else None


class _Package:
    """One counter in microjoules, which starts at 0 again when it is full."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._last, self._range, self._turns = 0, 0, 0
        self.works = False
        with contextlib.suppress(OSError, ValueError):
            self._range = int((folder / "max_energy_range_uj").read_text())
            self._last = int(self._file.read_text())
            self.works = True

    def joules(self) -> float:
        with contextlib.suppress(OSError, ValueError):
            now = int(self._file.read_text())
            self._turns += now < self._last
            self._last = now
        return (self._turns * self._range + self._last) * 1e-6


def _packages(folder: Path) -> Iterator[Path]:
    """The whole processor packages: their cores and caches are domains within them."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if (path / "name").read_text().startswith("package"):
                    yield path


def gpu_memory(pid: int) -> int | None:
    """Memory that a process holds on all GPUs (bytes); None where NVML does not tell.

    In a container NVML may know processes by other numbers, and then it tells of none.
    """
    nvml = _nvml()
    if nvml is None:
        return None
    held = None
    with contextlib.suppress(nvml.NVMLError):
        for device in _devices(nvml):
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(device):
                if process.pid == pid and process.usedGpuMemory is not None:
                    held = (held or 0) + int(process.usedGpuMemory)
    return held


def _gpu_joules() -> float | None:
    nvml = _nvml()
    if nvml is None:
        return None
    with contextlib.suppress(nvml.NVMLError):
        counted = [nvml.nvmlDeviceGetTotalEnergyConsumption(d) for d in _devices(nvml)]
        return sum(counted) * 1e-3 if counted else None
    return None  # older GPUs have no counter


def _devices(nvml: Any) -> list[Any]:
    count = nvml.nvmlDeviceGetCount()
    return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]


@functools.cache
def _nvml() -> Any:
    """NVML, or None without its package or a driver."""
    try:
        import pynvml
    except ImportError:
        return None
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return pynvml
    return None
