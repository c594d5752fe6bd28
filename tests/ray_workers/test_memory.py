"""The memory of a piece of work, and of the processes that it starts."""

from __future__ import annotations

import subprocess
import sys

import psutil
from prefect_hone.ray_workers.memory import PeakMemory


def test_a_childs_memory_counts() -> None:
    before = psutil.Process().memory_info().rss
    with PeakMemory() as none:
        pass
    with PeakMemory() as some:
        program = "import time; held = bytearray(b'1') * 300_000_000; time.sleep(1)"
        subprocess.run([sys.executable, "-c", program], check=True)
    assert none.bytes >= before / 2
    assert some.bytes > none.bytes + 250_000_000
