"""LiteRT. The artifact is a .tflite file for each batch size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .compiled_artifact import CompiledArtifact
from .fixed_batches import in_fixed_batches
from .predict import Array, Arrays, LoadOptions, Outputs, Predict, as_outputs

NAME = "litert"
LIBRARIES: Mapping[str, str] = {"ai_edge_litert": "ai-edge-litert"}
ENVIRONMENT: str | None = "jax"


def program_file(size: int) -> str:
    """The file of a batch size."""
    return f"batch-{size}.tflite"


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact.

    Args:
        folder: The artifact.
        options: `threads`: threads of the interpreter.
    """
    from ai_edge_litert.interpreter import Interpreter

    artifact = CompiledArtifact.read(folder)

    def compiled(size: int) -> Predict:
        interpreter = Interpreter(
            str(folder / program_file(size)), num_threads=int(options.get("threads") or 1)
        )
        interpreter.allocate_tensors()
        places = interpreter.get_input_details()
        outputs = _in_order(interpreter)

        def predict(inputs: Arrays) -> Outputs:
            for place, name in zip(places, artifact.inputs, strict=True):
                interpreter.set_tensor(place["index"], _rounded(inputs[name], place))
            interpreter.invoke()
            found = [_plain(interpreter.get_tensor(o["index"]), o) for o in outputs]
            return as_outputs(found, artifact.outputs)

        return predict

    return in_fixed_batches({size: compiled(size) for size in artifact.batch_sizes or ()})


def _in_order(interpreter: Any) -> list[dict[str, Any]]:
    """The outputs in the model's order: the converter may permute them, the signature names them
    `output_0`, `output_1`.
    """
    details = {place["name"]: place for place in interpreter.get_output_details()}
    signatures = interpreter.get_signature_list()
    if len(details) < 2 or not signatures:
        return list(details.values())
    key = next(iter(signatures))
    runner = interpreter.get_signature_runner(key)
    named = runner.get_output_details()
    order = sorted(named, key=lambda name: int(name.rpartition("_")[2]))
    return [details[named[name]["name"]] for name in order]


def _rounded(value: Array, place: dict[str, Any]) -> Array:
    """A float input quantized for an int8 tensor; other inputs unchanged."""
    wanted = place["dtype"]
    if wanted == value.dtype:
        return value
    scale, zero = place["quantization"]
    if not scale:
        return value.astype(wanted)
    limits = np.iinfo(wanted)
    rounded: Array = np.clip(np.round(value / scale) + zero, limits.min, limits.max).astype(wanted)
    return rounded


def _plain(value: Array, place: dict[str, Any]) -> Array:
    """An int8 output as float."""
    scale, zero = place["quantization"]
    if not scale:
        return value if value.dtype.kind in "iub" else value.astype(np.float32)
    if value.dtype == np.float32:
        return value
    plain: Array = ((value.astype(np.float32) - zero) * scale).astype(np.float32)
    return plain
