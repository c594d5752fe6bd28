"""litert: a LiteRT model (.tflite), for phones and small devices.

https://ai.google.dev/edge/litert. In the environment `jax`, without TensorFlow. A file for each
batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .fixed_batches import in_fixed_batches
from .isolated.target import of_its_own

CAN = {
    "static-int8": "LiteRT's quantizer, with calibration data",
    "dynamic-int8": "LiteRT's quantizer",
    "weight-int8": "LiteRT's quantizer",
}
availability, compile_graph = of_its_own("litert", CAN)


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner; in the target's environment.

    Args:
        folder: The artifact.
        options: `threads`: threads of the interpreter.
    """
    import json

    from ai_edge_litert.interpreter import Interpreter

    settings = json.loads((folder / "settings.json").read_text())
    names = settings["names"]

    def runner(size: int) -> Callable[[dict[str, Any]], Any]:
        interpreter = Interpreter(
            str(folder / f"batch-{size}.tflite"), num_threads=int(options.get("threads") or 1)
        )
        interpreter.allocate_tensors()
        places = interpreter.get_input_details()
        output = interpreter.get_output_details()[0]

        def run(inputs: dict[str, Any]) -> Any:
            for place, name in zip(places, names, strict=True):
                interpreter.set_tensor(place["index"], _rounded(inputs[name], place))
            interpreter.invoke()
            return _plain(interpreter.get_tensor(output["index"]), output)

        return run

    return in_fixed_batches({size: runner(size) for size in settings["batch_sizes"]})


def _rounded(value: Any, place: dict[str, Any]) -> Any:
    """A float input as an int8 tensor takes it; others as they are."""
    wanted = place["dtype"]
    if wanted == value.dtype:
        return value
    scale, zero = place["quantization"]
    if not scale:
        return value.astype(wanted)
    limits = np.iinfo(wanted)
    return np.clip(np.round(value / scale) + zero, limits.min, limits.max).astype(wanted)


def _plain(value: Any, place: dict[str, Any]) -> Any:
    """An int8 output as float."""
    scale, zero = place["quantization"]
    if value.dtype == np.float32 or not scale:
        return value.astype(np.float32)
    return ((value.astype(np.float32) - zero) * scale).astype(np.float32)
