"""What this machine is: a measurement holds only for the processor that it was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def processor() -> str:
    """Model of the processor and the number of its cores that may be used."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {count} cores"
