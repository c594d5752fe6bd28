"""Lower a program to StableHLO. Runs in the target's isolated environment:

python -m prefect_hone.tasks.compile.isolated.xla_build JOB.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ....runtimes.xla_runtime import PROGRAM, WEIGHTS

PLATFORMS = ("cpu", "cuda", "tpu")


def main(job: dict[str, Any]) -> None:
    """Write the program, as `jax.export` serializes it, and its weights beside it."""
    import jax
    import numpy as np
    from safetensors.numpy import save_file

    from ._jax import as_jax

    source, target = Path(job["program"]), Path(job["target"])
    weights, function, inputs = as_jax(source / "program.pt2")
    shapes = [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in weights]
    lowered = jax.export.export(jax.jit(function), platforms=PLATFORMS)(shapes, tuple(inputs))
    (target / PROGRAM).write_bytes(lowered.serialize())
    named = {f"{i:05}": np.asarray(weight) for i, weight in enumerate(weights)}
    save_file(named or {"none": np.zeros(1, np.float32)}, str(target / WEIGHTS))
    said = {
        "compile/platforms": ", ".join(lowered.platforms),
        "compile/calling_convention": lowered.calling_convention_version,
    }
    (source / "built.json").write_text(json.dumps({"batch_sizes": None, "params": said}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
