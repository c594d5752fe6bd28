"""How much of its time a process could not run, although it wanted to: by the kernel's own counts.

Linux counts for each thread the time in which it could have run and waited for a processor (field
2 of `schedstat`, in nanoseconds: Documentation/scheduler/sched-stats.rst), and for the machine the
time that its hypervisor gave to others (`steal` of `/proc/stat`, in hundredths of a second:
proc_stat(5)). Neither depends on how fast the process itself is, so to choose by them which
measurement to repeat does not favour fast ones.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_THREADS = Path("/proc/self/task")
_MACHINE = Path("/proc/stat")
_STEAL = 8  # field of the first line


class Disturbance:
    """Watches this process from its creation on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._lost = _lost()

    def share(self) -> float:
        """Time lost since the creation, as a share of it: 0 where the system counts none.

        All threads together, so it may be above 1.
        """
        return max(0.0, _lost() - self._lost) / max(time.perf_counter() - self._began, 1e-9)


def _lost() -> float:
    """Seconds that threads of this process waited for a processor, and that were stolen."""
    waited = 0
    with contextlib.suppress(OSError):
        for thread in _THREADS.iterdir():
            with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended
                waited += int((thread / "schedstat").read_text().split()[1])
    stolen = 0.0
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = _MACHINE.read_text(encoding="utf-8").partition("\n")[0].split()
        stolen = int(fields[_STEAL]) / os.sysconf("SC_CLK_TCK")
    return waited * 1e-9 + stolen
