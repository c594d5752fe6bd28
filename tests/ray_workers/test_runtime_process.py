"""A model in a process of its own: it answers, it can be stopped, and its death is named."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prefect_hone.ray_workers.runtime_process import RuntimeProcess, _telling
from prefect_hone.recipe.errors import StepCrashed, StepFailed

LOADERS = """
import os, time
import numpy as np

def double(folder, options):
    return lambda inputs: inputs["input"] * 2

def refuses(folder, options):
    raise ValueError("bad file")

def crashes(folder, options):
    return lambda inputs: os.kill(os.getpid(), 11)

def counts(folder, options):
    file = open(folder / "calls", "a")
    def run(inputs):
        file.write("x"); file.flush(); time.sleep(0.001)
        return inputs["input"]
    return run
"""


@pytest.fixture(autouse=True)
def _loaders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "loaders_for_test.py").write_text(LOADERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return


def process(name: str, folder: Path) -> RuntimeProcess:
    return RuntimeProcess(f"loaders_for_test:{name}", folder, {"threads": 1}, timeout=30)


def test_it_predicts_and_measures(tmp_path: Path) -> None:
    x = {"input": np.ones((2, 3), np.float32)}
    with process("double", tmp_path) as runtime:
        runtime.wait_loaded()
        assert runtime.predict(x).sum() == 12
        runtime.prepare([x])
        durations = runtime.time_calls(0.05)
        assert len(durations) >= 2
        assert all(0 < d < 1 for d in durations)
        assert runtime.peak_memory() > 5_000_000
        pid = runtime.process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_stopped_it_takes_no_processor_time(tmp_path: Path) -> None:
    with process("counts", tmp_path) as runtime:
        runtime.wait_loaded()
        runtime.prepare([{"input": np.ones(1)}])
        runtime._send(("time", 30.0))
        time.sleep(0.3)
        runtime.stop()
        time.sleep(0.2)
        before = (tmp_path / "calls").stat().st_size
        time.sleep(0.3)
        assert (tmp_path / "calls").stat().st_size == before > 0
        runtime.resume()
        time.sleep(0.3)
        assert (tmp_path / "calls").stat().st_size > before


def test_what_the_runtime_refuses_is_said(tmp_path: Path) -> None:
    with process("refuses", tmp_path) as runtime, pytest.raises(StepFailed, match="bad file"):
        runtime.wait_loaded()


def test_of_several_lines_the_telling_one_is_said() -> None:
    text = "Exception from src/a.cpp:1:\nException from src/b.cpp:2:\nindex out of range\n"
    assert _telling(RuntimeError(text)) == "index out of range"
    assert _telling(RuntimeError("Exception from src/a.cpp:1:")) == "Exception from src/a.cpp:1:"
    assert _telling(RuntimeError()) == ""


def test_the_signal_that_it_died_of_is_named(tmp_path: Path) -> None:
    with process("crashes", tmp_path) as runtime:
        runtime.wait_loaded()
        with pytest.raises(StepCrashed, match="SIGSEGV"):
            runtime.predict({"input": np.ones(1)})


def test_a_stopped_process_is_ended_too(tmp_path: Path) -> None:
    runtime = process("double", tmp_path)
    runtime.wait_loaded()
    runtime.stop()
    started = time.monotonic()
    runtime.close()
    assert runtime.process.returncode == -signal.SIGKILL
    assert time.monotonic() - started < 5


def test_a_missing_loader_is_an_error_not_a_hang(tmp_path: Path) -> None:
    with RuntimeProcess("no_such_module:load", tmp_path, {}, timeout=30) as runtime:
        with pytest.raises(StepFailed, match="no_such_module"):
            runtime.wait_loaded()
    assert sys.executable
