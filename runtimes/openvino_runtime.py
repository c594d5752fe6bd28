"""OpenVINO, on any of its devices.

The artifact is OpenVINO's intermediate representation with a compressed description, which as
plain text would be larger than a small model's weights. `gunzip model.xml.gz` gives the file that
OpenVINO's own tools read.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .compiled_artifact import CompiledArtifact
from .fixed_batches import for_batch_sizes
from .predict import Arrays, LoadOptions, Outputs, Predict, as_outputs, names_in_graph

NAME = "openvino"
LIBRARIES: Mapping[str, str] = {"openvino": "openvino"}
ENVIRONMENT: str | None = None

#: The description, as OpenVINO writes it and compressed, and the weights.
DESCRIPTION = "model.xml"
PACKED = f"{DESCRIPTION}.gz"
WEIGHTS = "model.bin"
#: OpenVINO's name of each precision.
PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


@functools.cache
def core() -> Any:
    """OpenVINO's `Core`, one for the whole process and never released.

    With its CPU plugin each `Core` replaces the process's alternate signal stack, and gives the one
    before it back when it is released. Of two whose lives overlap, the second to go gives back the
    freed stack of the first, and the process dies of the next signal that Python handles (SIGTERM,
    SIGCHLD): seen with OpenVINO 2026.4.1, `CPUSpecialSetup` in its `plugin.cpp`.
    """
    import openvino

    return openvino.Core()


@dataclass(frozen=True)
class OpenVinoSettings:
    """How the artifact is opened.

    Attributes:
        device: OpenVINO's name of the device.
        precision: Of non-quantized layers.
        streams: Calls that may run in parallel.
        threads: Of inference on the CPU; None: as in the caller's options.
    """

    device: str
    precision: str = "fp32"
    streams: int = 1
    threads: int | None = None


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact.

    Args:
        folder: The artifact.
        options: `threads`: threads of inference.
    """
    artifact = CompiledArtifact.read(folder)
    settings = OpenVinoSettings(**artifact.settings)
    hints: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": PRECISIONS[settings.precision],
        "NUM_STREAMS": str(settings.streams),
    }
    threads = settings.threads or options.get("threads")
    if threads and settings.device == "CPU":
        hints["INFERENCE_NUM_THREADS"] = int(threads)

    def compiled(size: int | None) -> Predict:
        model, weights = _read(folder)
        if size is not None:
            model.reshape({port: _with_batch(port, size) for port in model.inputs})
        program = core().compile_model(model, settings.device, hints)
        request = program.create_infer_request()
        takes = {name for port in program.inputs for name in port.get_names()}
        ports = [program.output(name) for name in names_in_graph(artifact.outputs, takes)]

        def predict(inputs: Arrays, _held: Any = weights) -> Outputs:
            found = request.infer(inputs, share_inputs=True)
            # The next call reuses the request's buffers, so the caller gets copies.
            return as_outputs([found[port].copy() for port in ports], artifact.outputs)

        return predict

    return for_batch_sizes(artifact.batch_sizes, compiled)


def _read(folder: Path) -> tuple[Any, Any]:
    """The model of an artifact, and its memory-mapped weights, which must live as long."""
    import openvino

    weights = np.memmap(folder / WEIGHTS, dtype=np.uint8, mode="c")
    description = gzip.decompress((folder / PACKED).read_bytes())
    tensor = openvino.Tensor(np.asarray(weights), shared_memory=True)
    return core().read_model(description, tensor), weights


def _with_batch(port: Any, size: int) -> Any:
    """The shape of an input with the batch size as its first axis."""
    shape = port.get_partial_shape()
    shape[0] = size
    return shape
