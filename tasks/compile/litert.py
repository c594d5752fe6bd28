"""litert: a LiteRT model (.tflite), for phones and small devices.

https://ai.google.dev/edge/litert. In the environment `jax`, without TensorFlow. One file per batch
size.
"""

from __future__ import annotations

from ...runtimes.litert_runtime import load as load
from .isolated.target import of_its_own

CAN = {
    "static-int8": "LiteRT's quantizer, with calibration data",
    "dynamic-int8": "LiteRT's quantizer",
    "weight-int8": "LiteRT's quantizer",
}
availability, compile_graph = of_its_own("litert", CAN)
