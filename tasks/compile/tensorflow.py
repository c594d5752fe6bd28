"""tensorflow: a SavedModel, as TensorFlow Serving takes it.

Through torchax and `jax2tf`, in an isolated environment: the model is StableHLO within a TensorFlow
function, so TensorFlow compiles it with XLA.
"""

from __future__ import annotations

from ...runtimes.tensorflow_runtime import load as load
from .isolated.target import of_its_own

availability, compile_graph = of_its_own("tensorflow", {})
