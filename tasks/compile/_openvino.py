"""OpenVINO on any of its devices: compile, and load as a runner.

The artifact is OpenVINO's intermediate representation, its description packed: of a small model
the plain text would be larger than the weights. `gunzip model.xml.gz` gives what OpenVINO's own
tools read.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ...recipe.library_messages import telling
from . import Unavailable
from .fixed_batches import Run, compiled_for_sizes, note_sizes

FILE = "model.xml"
PACKED = f"{FILE}.gz"
WEIGHTS = "model.bin"
SETTINGS = "settings.json"
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def not_installed() -> Unavailable | None:
    """None if OpenVINO is installed."""
    if importlib.util.find_spec("openvino") is None:
        return Unavailable(
            reason="openvino is not installed",
            do="pip install 'prefect-hone[openvino]'",
            installable=True,
        )
    return None


def no_device(device: str) -> Unavailable | None:
    """None if OpenVINO is installed and sees the device."""
    missing = not_installed()
    if missing is not None:
        return missing
    import openvino

    if not any(found.startswith(device) for found in openvino.Core().available_devices):
        return Unavailable(
            reason=f"OpenVINO sees no {device} on this machine",
            do=f"run on a machine with an Intel {device} and its driver",
            installable=False,
        )
    return None


def convert(work: Workspace, target: Any) -> Result:
    """Write the intermediate representation and the target's settings.

    Raises:
        StepFailed: OpenVINO can't convert the graph; with the operator that it names.
    """
    import openvino

    from ...ray_workers.model.onnx_files import PRECISION, property_of, read_graph
    from ...ray_workers.store.file_names import GRAPH

    wish = property_of(read_graph(work.inputs["graph"]), PRECISION)
    if wish == "fp8":
        raise StepFailed(
            "OpenVINO's devices have no fp8", where=target.kind, do="take a GPU target"
        )
    if wish in _HINTS and target.precision == "fp32":
        target = target.model_copy(update={"precision": wish})
    folder = work.output("model", "openvino")
    try:
        model = openvino.Core().read_model(str(work.inputs["graph"] / GRAPH))
    except Exception as error:
        raise StepFailed(
            f"OpenVINO can't convert the graph: {telling(error)}", where=target.kind
        ) from error
    plain = folder / FILE
    openvino.save_model(model, str(plain), compress_to_fp16=False)
    (folder / PACKED).write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
    (folder / SETTINGS).write_text(target.model_dump_json())
    return Result(
        params={
            "compile/nodes": len(model.get_ops()),
            "compile/precision": target.precision,
            "compile/batch_axis": note_sizes(folder, work.spec.get("batch_sizes")),
        }
    )


def runner(
    folder: Path, options: dict[str, Any], device: str, target: Any
) -> Callable[[dict[str, Any]], Any]:
    """A function from inputs by name to the main output.

    Args:
        folder: The artifact.
        options: `threads`: threads of inference.
        device: OpenVINO's name of it.
        target: The target's settings.
    """
    import openvino

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS[target.precision],
        "NUM_STREAMS": str(target.streams),
    }
    threads = getattr(target, "threads", None) or options.get("threads")
    if threads and device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = int(threads)
    core = openvino.Core()

    def compiled(size: int | None) -> Run:
        model, weights = _read(core, folder)
        if size is not None:
            model.reshape({port: _with_batch(port, size) for port in model.inputs})
        program = core.compile_model(model, device, settings)
        request = program.create_infer_request()
        output = program.output("output")

        def run(inputs: dict[str, Any], _held: Any = weights) -> Any:
            # The request's buffer is used again by the next call, so the caller gets its own copy.
            return request.infer(inputs, share_inputs=True)[output].copy()

        return run

    return compiled_for_sizes(folder, compiled)


def _read(core: Any, folder: Path) -> tuple[Any, Any]:
    """The model of an artifact, and its weights, which must live as long: they stay on the disk
    until they are used.
    """
    import numpy as np
    import openvino

    if (folder / FILE).exists():  # as it was before descriptions were packed
        return core.read_model(str(folder / FILE)), None
    weights = np.memmap(folder / WEIGHTS, dtype=np.uint8, mode="c")
    description = gzip.decompress((folder / PACKED).read_bytes())
    tensor = openvino.Tensor(np.asarray(weights), shared_memory=True)
    return core.read_model(description, tensor), weights


def _with_batch(port: Any, size: int) -> Any:
    """The shape of an input with the batch size as its first axis."""
    shape = port.get_partial_shape()
    shape[0] = size
    return shape
