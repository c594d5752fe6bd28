"""executorch: an ExecuTorch program with XNNPACK's kernels (.pte), for phones and small devices.

https://docs.pytorch.org/executorch/stable/. In an environment of its own. A program for each batch
size: XNNPACK plans memory and packs weights for fixed shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .fixed_batches import in_fixed_batches
from .isolated.target import of_its_own

CAN = {"static-int8": "XNNPACK's quantizer, by torchao (PT2E)"}
availability, compile_graph = of_its_own("executorch", CAN)


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner; in the target's environment.

    Args:
        folder: The artifact.
        options: `threads`: threads of XNNPACK's pool.
    """
    import json

    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    settings = json.loads((folder / "settings.json").read_text())
    threads = int(options.get("threads") or 0)
    if threads and hasattr(portable_lib, "_unsafe_reset_threadpool"):
        portable_lib._unsafe_reset_threadpool(threads)
    runtime = Runtime.get()
    names = settings["names"]
    kept = []

    def runner(size: int) -> Callable[[dict[str, Any]], Any]:
        program = runtime.load_program(str(folder / f"batch-{size}.pte"))
        method = program.load_method("forward")
        kept.append(program)

        def run(inputs: dict[str, Any]) -> Any:
            arguments = [torch.from_numpy(np.ascontiguousarray(inputs[n])) for n in names]
            return method.execute(arguments)[0].numpy().copy()

        return run

    return in_fixed_batches({size: runner(size) for size in settings["batch_sizes"]})
