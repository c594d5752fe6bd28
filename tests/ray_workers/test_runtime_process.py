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
from prefect_hone.ray_workers.runtime_process import RuntimeProcess, interpreter_for
from prefect_hone.ray_workers.scratch import process_folder
from prefect_hone.recipe.errors import HoneError, InputError, StepCrashed, StepFailed

LOADERS = """
import os, time
import numpy as np

def double(folder, options):
    return lambda inputs: inputs["input"] * 2

def refuses(folder, options):
    raise ValueError("bad file")

def cut_off(folder, options):
    raise RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from x failed:"
                       "Protobuf parsing failed.")

def ours(folder, options):
    from prefect_hone.recipe.errors import InputError
    raise InputError("no", where="here", do="mend it")

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
    given = os.environ.get("PYTHONPATH")  # an empty entry would be the current folder
    path = os.pathsep.join([str(tmp_path), *([given] if given else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    return


def process(name: str, folder: Path) -> RuntimeProcess:
    return RuntimeProcess(f"loaders_for_test:{name}", folder, {"threads": 1}, timeout=30)


def test_it_predicts_and_measures(tmp_path: Path) -> None:
    x = {"input": np.ones((2, 3), np.float32)}
    with process("double", tmp_path) as runtime:
        runtime.wait_loaded()
        assert runtime.predict(x).sum() == 12
        runtime.prepare([x])
        durations, disturbed = runtime.time_calls(0.05)
        assert len(durations) >= 2
        assert all(0 < d < 1 for d in durations)
        assert disturbed >= 0
        assert 5_000_000 < runtime.peak_memory() < 200_000_000
        pid = runtime.process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_its_memory_is_not_that_of_the_process_that_started_it(tmp_path: Path) -> None:
    held = np.ones(60_000_000)  # 480 MB
    with process("double", tmp_path) as runtime:
        runtime.wait_loaded()
        assert runtime.peak_memory() < held.nbytes / 2


def test_stopped_it_takes_no_processor_time(tmp_path: Path) -> None:
    with process("counts", tmp_path) as runtime:
        runtime.wait_loaded()
        runtime.prepare([{"input": np.ones(1)}])
        runtime.begin_calls(30.0, 0.0)
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
    assert time.monotonic() - started < 60


def test_a_missing_loader_is_an_error_not_a_hang(tmp_path: Path) -> None:
    with RuntimeProcess("no_such_module:load", tmp_path, {}, timeout=30) as runtime:
        with pytest.raises(StepFailed, match="no_such_module"):
            runtime.wait_loaded()
    assert sys.executable


def test_what_a_library_says_is_said_in_plain_words(tmp_path: Path) -> None:
    with process("cut_off", tmp_path) as runtime:
        with pytest.raises(
            StepFailed, match="RuntimeError: it is not an ONNX file, or it is cut off"
        ):
            runtime.wait_loaded()


def test_what_another_kind_of_error_says_is_kept(tmp_path: Path) -> None:
    """The baseline is opened by code of ours, which says where, and what to do."""
    with process("ours", tmp_path) as runtime, pytest.raises(InputError) as caught:
        runtime.wait_loaded()
    assert (caught.value.what, caught.value.where, caught.value.do) == ("no", "here", "mend it")


def test_an_environment_that_can_not_be_made_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HONE_ENVIRONMENTS", str(tmp_path / "environments"))
    monkeypatch.setattr("prefect_hone.runtimes.isolated.environment.sys.executable", "/bin/false")
    told: list[str] = []
    with pytest.raises(HoneError, match="the environment for jax can't be created") as caught:
        interpreter_for("jax", told.append)
    assert caught.value.where is not None
    assert "venv" in str(caught.value.do)
    assert told == ["creating the environment for jax (once, about a minute)"]
    assert interpreter_for(None) is None


def test_what_a_runtime_leaves_in_its_temporary_folder_is_gone_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AOTInductor unpacks the model there, and the child is killed at the end."""
    (tmp_path / "leaves_files.py").write_text(
        "import pathlib, tempfile\n"
        "def load(folder, options):\n"
        "    left = pathlib.Path(tempfile.mkdtemp()) / 'model.so'\n"
        "    left.write_bytes(b'x')\n"
        "    (folder / 'place').write_text(str(left))\n"
        "    return lambda inputs: inputs['x']\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with RuntimeProcess("leaves_files:load", tmp_path, {}) as process:
        process.wait_loaded()
        left = Path((tmp_path / "place").read_text())
        assert left.is_file()
        assert left.is_relative_to(process_folder())
    assert not left.parent.parent.exists()
