"""XLA, through JAX. The artifact is a StableHLO program (https://openxla.org/stablehlo), which
`jax.export.deserialize` reads, and its weights. XLA compiles it on the first call with each batch
size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .compiled_artifact import CompiledArtifact
from .predict import Arrays, LoadOptions, Outputs, Predict, as_outputs

NAME = "xla"
LIBRARIES: Mapping[str, str] = {"jax": "jax", "safetensors": "safetensors"}
ENVIRONMENT: str | None = "jax"

PROGRAM = "program.stablehlo"
WEIGHTS = "weights.safetensors"


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact.

    Args:
        folder: The artifact.
        options: `threads`: threads of XLA on a CPU.
    """
    from safetensors.numpy import load_file

    artifact = CompiledArtifact.read(folder)
    names = artifact.inputs
    jax = _with_threads(int(options.get("threads") or 0))
    program = jax.export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    kept = load_file(str(folder / WEIGHTS))
    kept.pop("none", None)
    weights = [jax.numpy.asarray(kept[name]) for name in sorted(kept)]
    call = jax.jit(program.call)

    def predict(inputs: Arrays) -> Outputs:
        found = call(weights, tuple(inputs[name] for name in names))
        return as_outputs([np.asarray(value) for value in found], artifact.outputs)

    return predict


def _with_threads(count: int) -> Any:
    """JAX, whose CPU client has this many threads.

    There is no option for it: XLA starts one thread per core that the process may use when its
    client is created. So the process is limited to `count` cores until then.
    """
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
