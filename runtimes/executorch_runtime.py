"""ExecuTorch with XNNPACK. The artifact is a .pte file for each batch size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .compiled_artifact import CompiledArtifact
from .fixed_batches import in_fixed_batches
from .predict import Arrays, LoadOptions, Outputs, Predict, as_outputs

NAME = "executorch"
LIBRARIES: Mapping[str, str] = {"executorch": "executorch", "torch": "torch"}
ENVIRONMENT: str | None = "executorch"


def program_file(size: int) -> str:
    """The file of a batch size."""
    return f"batch-{size}.pte"


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact.

    Args:
        folder: The artifact.
        options: `threads`: threads of XNNPACK's pool.
    """
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    artifact = CompiledArtifact.read(folder)
    threads = int(options.get("threads") or 0)
    if threads and hasattr(portable_lib, "_unsafe_reset_threadpool"):
        portable_lib._unsafe_reset_threadpool(threads)
    runtime = Runtime.get()
    kept = []

    def compiled(size: int) -> Predict:
        program = runtime.load_program(str(folder / program_file(size)))
        method = program.load_method("forward")
        kept.append(program)

        def predict(inputs: Arrays) -> Outputs:
            arguments = [
                torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in artifact.inputs
            ]
            found = [output.numpy().copy() for output in method.execute(arguments)]
            return as_outputs(found, artifact.outputs)

        return predict

    return in_fixed_batches({size: compiled(size) for size in artifact.batch_sizes or ()})
