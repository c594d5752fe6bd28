"""The processor of this machine, which measurements and some computations depend on."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

from ..recipe.strict import Strict

_CPUINFO = Path("/proc/cpuinfo")
_X86 = {"x86_64", "amd64", "i386", "i686"}
#: Instructions of x86 that add products of 8-bit integers in 32 bits, as Linux names them.
_WIDE_SUMS = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"}
#: Instructions that decide which kernels a runtime selects, and so what it computes.
_TELLING = _WIDE_SUMS | {
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_fp16",
    "amx_bf16", "amx_fp16", "amx_tile", "avx_ne_convert",
    "asimd", "asimddp", "asimdhp", "fphp", "bf16", "i8mm", "sve", "sve2",
}  # fmt: skip


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
        return self.architecture.lower() in _X86 and not _WIDE_SUMS & set(self.features)

    def identity(self) -> dict[str, object]:
        """What decides which kernels are used; excludes the number of cores."""
        return {"architecture": self.architecture, "features": list(self.features)}


@functools.cache
def processor() -> Processor:
    """The processor of this machine; if the system does not report its instruction sets (not
    Linux), none are assumed.
    """
    name = platform.processor() or platform.machine()
    features: set[str] = set()
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            field, _, value = line.partition(":")
            match field.strip().lower():
                case "model name":
                    name = value.strip()
                case "flags" | "features":
                    features = set(value.split()) & _TELLING
                case "":
                    break  # the cores are alike
    affinity = hasattr(os, "sched_getaffinity")
    return Processor(
        architecture=platform.machine(),
        name=name,
        cores=len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1,
        features=tuple(sorted(features)),
    )
