"""xla: StableHLO (https://openxla.org/stablehlo), for CPUs, GPUs and TPUs.

Through torchax and `jax.export`, in an isolated environment; XLA compiles it on the first call with
each batch size. The artifact is `program.stablehlo`, which `jax.export.deserialize` reads, and its
weights.
"""

from __future__ import annotations

from ...runtimes.xla_runtime import load as load
from .isolated.target import of_its_own

availability, compile_graph = of_its_own("xla", {})
