"""Open an artifact and run it: one file per runtime, `NAME_runtime.py`.

Validation, the benchmark and the served champion use the same code. It imports numpy, nothing from
Hone's other rooms, and a runtime's library only when that runtime is opened. So this room alone is
packaged with a model, as the wheel `hone-runtimes`.
"""

from __future__ import annotations

from .telemetry import turn_off

turn_off()  # before any library is imported
