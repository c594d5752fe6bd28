"""executorch: an ExecuTorch program with XNNPACK's kernels (.pte), for phones and small devices.

https://docs.pytorch.org/executorch/stable/. In an isolated environment. One program per batch size:
XNNPACK plans memory and packs weights for fixed shapes.
"""

from __future__ import annotations

from ...runtimes.executorch_runtime import load as load
from .isolated.target import of_its_own

CAN = {"static-int8": "XNNPACK's quantizer, by torchao (PT2E)"}
availability, compile_graph = of_its_own("executorch", CAN)
