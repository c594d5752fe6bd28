"""tensorflow: a SavedModel, as TensorFlow Serving takes it.

By torchax and `jax2tf`, in an environment of its own: the model is StableHLO within a TensorFlow
function, so TensorFlow compiles it with XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .isolated.target import of_its_own

availability, compile_graph = of_its_own("tensorflow", {})


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner; in the target's environment.

    Args:
        folder: The artifact.
        options: `threads`: threads within an operator.
    """
    import os

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    from .isolated.tensorflow_build import SAVED

    threads = int(options.get("threads") or 0)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = tf.saved_model.load(str(folder / SAVED))
    serve = model.signatures["serving_default"]

    def run(inputs: dict[str, Any]) -> Any:
        return serve(**{name: tf.constant(value) for name, value in inputs.items()})[
            "output"
        ].numpy()

    run.model = model  # type: ignore[attr-defined]  # its variables live as long as it does
    return run
