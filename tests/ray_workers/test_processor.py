"""The processor: which ones add 8-bit products without overflow, and what is done about the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone.ray_workers import processor as module
from prefect_hone.ray_workers.processor import Processor, processor
from prefect_hone.recipe.passes import DynamicInt8, StaticInt8, WeightOnly, for_processor

AVX2 = """processor\t: 0
model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu avx avx2 fma sse4_2

processor\t: 1
model name\t: another
flags\t\t: avx512_vnni
"""


def made(architecture: str, *features: str) -> Processor:
    return Processor(architecture=architecture, name="x", cores=2, features=tuple(features))


@pytest.mark.parametrize(
    ("architecture", "features", "saturates"),
    [
        ("x86_64", ("avx2",), True),
        ("AMD64", (), True),  # Windows does not tell: taken for the worse
        ("x86_64", ("avx512f", "avx512bw"), True),
        ("x86_64", ("avx2", "avx_vnni"), False),
        ("x86_64", ("avx512_vnni",), False),
        ("x86_64", ("amx_int8",), False),
        ("aarch64", (), False),
        ("arm64", ("asimddp",), False),
    ],
)
def test_which_processors_overflow(
    architecture: str, features: tuple[str, ...], saturates: bool
) -> None:
    assert made(architecture, *features).saturates_int8 is saturates


def test_it_reads_the_first_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "cpuinfo"
    place.write_text(AVX2)
    monkeypatch.setattr(module, "_CPUINFO", place)
    found = processor.__wrapped__()
    assert found.name == "AMD EPYC 7763 64-Core Processor"
    assert found.features == ("avx", "avx2", "fma")
    assert str(found).startswith("AMD EPYC 7763 64-Core Processor, ")


def test_weights_take_7_bits_where_the_processor_needs_it_or_the_recipe_says_so() -> None:
    for asked in (
        StaticInt8(kind="quantize", scheme="static-int8"),
        DynamicInt8(kind="quantize", scheme="dynamic-int8"),
    ):
        assert asked.reduce_range is None
        assert for_processor(asked, True).reduce_range is True
        assert for_processor(asked, False).reduce_range is False
        said = asked.model_copy(update={"reduce_range": False})
        assert for_processor(said, True).reduce_range is False
    other = WeightOnly(kind="quantize", scheme="weight-int8")
    assert for_processor(other, True) is other
