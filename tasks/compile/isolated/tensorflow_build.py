"""Write a program as a SavedModel. Runs in the target's isolated environment:

python -m prefect_hone.tasks.compile.isolated.tensorflow_build JOB.json
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ....runtimes.tensorflow_runtime import SAVED


def main(job: dict[str, Any]) -> None:
    """Write a SavedModel with the signature `serving_default`: inputs by name to `output`,
    and the further outputs as `output_1`, `output_2`.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import jax
    import numpy as np
    import tensorflow as tf
    from jax.experimental import jax2tf

    from ._jax import as_jax

    source, target = Path(job["program"]), Path(job["target"])
    weights, function, inputs = as_jax(source / "program.pt2")
    axes = ["(batch, ...)" if jax.export.is_symbolic_dim(i.shape[0]) else "..." for i in inputs]
    converted = jax2tf.convert(
        lambda held, *arguments: function(held, arguments),
        polymorphic_shapes=[None, *axes],
        with_gradient=False,
        native_serialization_platforms=("cpu", "cuda"),
    )
    held = [tf.Variable(np.asarray(weight), trainable=False) for weight in weights]
    specs = [
        tf.TensorSpec([None, *i.shape[1:]], dtype=i.dtype, name=name)
        for i, name in zip(inputs, job["names"], strict=True)
    ]

    def serve(*arguments: Any) -> dict[str, Any]:
        main, *others = converted(held, *arguments)
        return {"output": main, **{f"output_{i + 1}": v for i, v in enumerate(others)}}

    traced = tf.function(serve, autograph=False, input_signature=specs)
    module = tf.Module()
    module.held = held
    tf.saved_model.save(module, str(target / SAVED), signatures={"serving_default": traced})
    said = {"compile/tensorflow": tf.__version__}
    (source / "built.json").write_text(json.dumps({"batch_sizes": None, "params": said}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
