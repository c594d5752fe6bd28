"""Energy from counter files as Linux has them, GPU memory as NVML tells it, and None without either."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect_hone.ray_workers.runtime_process import TimedCalls
from prefect_hone.tasks.benchmark import counters
from prefect_hone.tasks.benchmark.counters import EnergyMeter, gpu_memory
from prefect_hone.tasks.benchmark.session import Energy, TimingSession


def domain(folder: Path, name: str, microjoules: int, largest: int = 1_000_000) -> Path:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")
    return folder / "energy_uj"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    counters._nvml.cache_clear()
    yield
    counters._nvml.cache_clear()


def test_without_a_counter_there_is_no_number(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        meter = EnergyMeter(folder)
        assert not meter.works
        assert meter.joules() is None
    assert gpu_memory(1) is None


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    one = domain(tmp_path / "intel-rapl:0", "package-0", 100)
    domain(tmp_path / "intel-rapl:0:0", "core", 50)
    domain(tmp_path / "intel-rapl:1", "package-1", 200)
    domain(tmp_path / "intel-rapl:2", "psys", 7)
    (tmp_path / "broken").mkdir()
    meter = EnergyMeter(tmp_path)
    assert meter.works
    before = meter.joules()
    assert before == pytest.approx(300e-6)
    one.write_text("500100")
    assert meter.joules() == pytest.approx(0.5003)
    one.write_text("100")  # it was full once
    assert meter.joules() == pytest.approx(1.0003)


def test_one_that_may_not_be_read_counts_as_absent(tmp_path: Path) -> None:
    file = domain(tmp_path / "intel-rapl:0", "package-0", 100)
    file.unlink()
    file.mkdir()
    assert not EnergyMeter(tmp_path).works


class _Nvml:
    """NVML with two GPUs."""

    class NVMLError(Exception):
        pass

    def __init__(self, energy: bool = True) -> None:
        self.energy = energy

    def nvmlInit(self) -> None:
        return None

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, device: int) -> int:
        if not self.energy:
            raise self.NVMLError("not supported")
        return 1000 * (device + 1)

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[Any]:
        return [
            SimpleNamespace(pid=7, usedGpuMemory=100 + device),
            SimpleNamespace(pid=8, usedGpuMemory=None),
        ]


def test_gpus_are_added_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _Nvml())
    assert gpu_memory(7) == 201
    assert gpu_memory(8) is None, "NVML does not tell"
    assert gpu_memory(9) is None, "it holds none, or is known by another number"
    assert EnergyMeter(tmp_path).joules() == pytest.approx(3.0)


def test_a_gpu_without_a_counter_of_energy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _Nvml(energy=False))
    assert not EnergyMeter(tmp_path).works
    monkeypatch.setitem(sys.modules, "pynvml", None)  # it is not installed
    counters._nvml.cache_clear()
    assert gpu_memory(7) is None


def test_energy_of_a_call_counts_the_one_that_wakes_the_process() -> None:
    import contextlib
    import random

    class Meter:
        works = True
        total = 5.0

        def joules(self) -> float:
            self.total += 4.0
            return self.total

    class Answering:
        def time_calls(self, seconds: float) -> TimedCalls:
            return TimedCalls([0.1] * 7, 0.0)

    with contextlib.ExitStack() as stack:
        session = TimingSession(stack, random.Random(0), Meter())  # type: ignore[arg-type]
        _, energy = session._least_disturbed(Answering(), 0.1)  # type: ignore[arg-type]
    assert energy == Energy(joules=4.0, calls=8)
    assert energy.of_a_call == 0.5
    assert Energy().of_a_call is None
