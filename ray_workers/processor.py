"""The processor of this machine, which measurements and some computations depend on."""

from __future__ import annotations

import functools
import os
import platform

from ..recipe.strict import Strict
from ..runtimes.processor_features import CPUINFO as _CPUINFO
from ..runtimes.processor_features import WIDE_SUMS, name_and_features

_X86 = {"x86_64", "amd64", "i386", "i686"}


class Processor(Strict):
    """A processor.

    Attributes:
        architecture: As `platform.machine()` names it (`x86_64`, `aarch64`).
        name: Its model (`AMD EPYC 7763`).
        cores: Cores that this process may use (a count).
        features: Its instruction sets that matter to kernels, sorted, as Linux names them.
    """

    architecture: str
    name: str
    cores: int
    features: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}, {self.cores} cores"

    @property
    def saturates_int8(self) -> bool:
        """Whether sums of 8-bit products can overflow.

        On x86 without VNNI or AMX, kernels add two products of unsigned by signed 8-bit integers
        in 16 bits, which saturate: results are silently wrong. With weights of 7 bits they fit.
        https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
        """
        return self.architecture.lower() in _X86 and not WIDE_SUMS & set(self.features)

    def identity(self) -> dict[str, object]:
        """What decides which kernels are used; excludes the number of cores."""
        return {"architecture": self.architecture, "features": list(self.features)}


@functools.cache
def processor() -> Processor:
    """The processor of this machine; if the system does not report its instruction sets (not
    Linux), none are assumed.
    """
    name, features = name_and_features(_CPUINFO)
    affinity = hasattr(os, "sched_getaffinity")
    return Processor(
        architecture=platform.machine(),
        name=name,
        cores=len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1,
        features=features,
    )
