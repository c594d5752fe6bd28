"""xla: StableHLO (https://openxla.org/stablehlo), for CPUs, GPUs and TPUs.

By torchax and `jax.export`, in an environment of its own; XLA compiles it when it first meets a
batch size. The artifact is `program.stablehlo`, which `jax.export.deserialize` reads, and its
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .isolated.target import of_its_own

availability, compile_graph = of_its_own("xla", {})


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner; in the target's environment.

    Args:
        folder: The artifact.
        options: `threads`: threads of XLA on a CPU.
    """
    import json

    import numpy as np
    from safetensors.numpy import load_file

    from .isolated.xla_build import PROGRAM, WEIGHTS

    names = json.loads((folder / "settings.json").read_text())["names"]
    jax = _with_threads(int(options.get("threads") or 0))
    program = jax.export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    kept = load_file(str(folder / WEIGHTS))
    kept.pop("none", None)
    weights = [jax.numpy.asarray(kept[name]) for name in sorted(kept)]
    call = jax.jit(program.call)

    def run(inputs: dict[str, Any]) -> Any:
        return np.asarray(call(weights, tuple(inputs[name] for name in names)))

    return run


def _with_threads(count: int) -> Any:
    """JAX, whose CPU client has so many threads.

    There is no option for it: XLA takes as many as the cores that it may run on when its client is
    made. So it is made with few, and all threads may use every core afterwards.
    """
    import os

    import jax
    import jax.export

    jax.config.update("jax_enable_x64", True)  # 64-bit integers are inputs as they are
    allowed = os.sched_getaffinity(0)
    if count and count < len(allowed):
        os.sched_setaffinity(0, set(sorted(allowed)[:count]))
    try:
        jax.devices()
    finally:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), allowed)
    return jax
