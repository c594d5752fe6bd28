"""A loader for `honesty.py`: ONNX Runtime, each call made longer by a share of its own time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect_hone.runtimes import onnxruntime_runtime


def load(folder: Path, options: dict[str, Any]) -> Any:
    """Options: `threads`; `slower`: the share, 0.1 for a tenth."""
    inner = onnxruntime_runtime.load(folder, options)
    share = float(options["slower"])
    clock = time.perf_counter

    def run(inputs: dict[str, Any]) -> Any:
        started = clock()
        result = inner(inputs)
        now = clock()
        until = now + share * (now - started)
        while clock() < until:
            pass
        return result

    return run
