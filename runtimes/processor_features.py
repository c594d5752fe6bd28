"""The processor's instruction sets, which decide the kernels that a runtime selects."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
#: Instructions of x86 that add products of 8-bit integers in 32 bits, as Linux names them.
WIDE_SUMS = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})
#: Instructions that decide which kernels a runtime selects, and so what it computes.
TELLING = WIDE_SUMS | {
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_fp16",
    "amx_bf16", "amx_fp16", "amx_tile", "avx_ne_convert",
    "asimd", "asimddp", "asimdhp", "fphp", "bf16", "i8mm", "sve", "sve2",
}  # fmt: skip


def name_and_features(cpuinfo: Path = CPUINFO) -> tuple[str, tuple[str, ...]]:
    """The processor's model, and its telling instruction sets, sorted, as Linux names them.

    If the system does not report them (not Linux), none are assumed.
    """
    name = platform.processor() or platform.machine()
    features: set[str] = set()
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            field, _, value = line.partition(":")
            match field.strip().lower():
                case "model name":
                    name = value.strip()
                case "flags" | "features":
                    features = set(value.split()) & TELLING
                case "":
                    break  # the cores are alike
    return name, tuple(sorted(features))


@functools.cache
def features_here() -> tuple[str, ...]:
    """Those of this machine's processor."""
    return name_and_features()[1]
