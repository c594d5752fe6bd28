"""TensorFlow. The artifact is a SavedModel, as TensorFlow Serving takes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .compiled_artifact import CompiledArtifact
from .predict import Arrays, LoadOptions, Outputs, Predict, as_outputs

NAME = "tensorflow"
LIBRARIES: Mapping[str, str] = {"tensorflow": "tensorflow_cpu"}
ENVIRONMENT: str | None = "tensorflow"

SAVED = "saved_model"


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact.

    Args:
        folder: The artifact.
        options: `threads`: threads within an operator.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    threads = int(options.get("threads") or 0)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = tf.saved_model.load(str(folder / SAVED))
    serve = model.signatures["serving_default"]

    outputs = CompiledArtifact.read(folder).outputs
    keys = ["output", *(f"output_{i}" for i in range(1, len(outputs)))]

    def predict(inputs: Arrays, _held: Any = model) -> Outputs:  # variables live as long as it does
        arguments = {name: tf.constant(value) for name, value in inputs.items()}
        found = serve(**arguments)
        return as_outputs([found[key].numpy() for key in keys], outputs)

    return predict
