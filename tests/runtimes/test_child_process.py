"""An artifact in a child: it answers, its errors come back, and no stranger's module gets in."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from prefect_hone.runtimes import child
from prefect_hone.runtimes.child_process import ChildProcess
from prefect_hone.runtimes.errors import RuntimeDied, RuntimeFailed, RuntimeSilent

LOADERS = """
import os, sys, time

def double(folder, options):
    return lambda inputs: inputs["input"] * 2

def refuses(folder, options):
    raise ValueError("bad file")

def dies(folder, options):
    return lambda inputs: os.kill(os.getpid(), 11)

def sleeps(folder, options):
    time.sleep(60)

def chatty(folder, options):
    os.write(2, b"a warning\\n" * 50_000)  # a pipe holds 64 KiB
    def predict(inputs):
        os.write(2, b"another\\n" * 50_000)
        return inputs["input"] * 2
    return predict

def last_words(folder, options):
    os.write(2, b"a warning\\n" * 50_000 + b"no such chip\\n")
    os._exit(3)

def leaves_one(folder, options):
    if not os.fork():
        time.sleep(20)  # it holds standard error open
    os._exit(3)

def loaded(folder, options):
    import numpy as np
    ours = [name for name in sys.modules if name.startswith("prefect_hone.")]
    return lambda inputs: np.array(sorted(ours))
"""
ONE = {"input": np.ones((2, 3), np.float32)}


@pytest.fixture(autouse=True)
def _loaders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loaders_for_test.py").write_text(LOADERS)
    given = os.environ.get("PYTHONPATH")  # an empty entry would be the current folder
    path = os.pathsep.join([str(tmp_path), *([given] if given else [])])
    monkeypatch.setenv("PYTHONPATH", path)


def start(name: str, folder: Path, timeout: float = 30) -> ChildProcess:
    return ChildProcess(f"loaders_for_test:{name}", folder, {"threads": 1}, timeout=timeout)


def test_it_predicts(tmp_path: Path) -> None:
    with start("double", tmp_path) as process:
        process.wait_loaded()
        assert process.predict(ONE).sum() == 12
        pid = process.process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_its_errors_come_back(tmp_path: Path) -> None:
    with start("refuses", tmp_path) as process, pytest.raises(RuntimeFailed, match="bad file"):
        process.wait_loaded()
    with start("dies", tmp_path) as process:
        process.wait_loaded()
        with pytest.raises(RuntimeDied, match="SIGSEGV"):
            process.predict(ONE)
    with start("sleeps", tmp_path, 0.5) as process, pytest.raises(RuntimeSilent, match=r"0\.5 s"):
        process.wait_loaded()
    with start("none", tmp_path) as process, pytest.raises(RuntimeFailed, match="none"):
        process.wait_loaded()


def test_what_it_writes_to_standard_error_stops_nothing(tmp_path: Path) -> None:
    with start("chatty", tmp_path) as process:
        process.wait_loaded()
        assert [process.predict(ONE).sum() for _ in range(3)] == [12, 12, 12]
    with start("last_words", tmp_path) as process:
        with pytest.raises(RuntimeDied, match=r"ended with code 3: no such chip$"):
            process.wait_loaded()
    started = time.monotonic()
    with start("leaves_one", tmp_path) as process, pytest.raises(RuntimeDied, match="code 3"):
        process.wait_loaded()
    assert time.monotonic() - started < 15, "it waited for what the child left"


def test_it_has_only_the_runtimes_room(tmp_path: Path) -> None:
    with start("loaded", tmp_path) as process:
        process.wait_loaded()
        found = set(process.predict(ONE))
    assert found <= {
        "prefect_hone.runtimes", "prefect_hone.runtimes.disturbance",
        "prefect_hone.runtimes.errors", "prefect_hone.runtimes.predict",
        "prefect_hone.runtimes.queries", "prefect_hone.runtimes.telemetry",
    }  # fmt: skip


def test_a_strangers_module_in_the_current_folder_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("numpy", "resource", "multiprocessing", "prefect_hone"):
        (theirs / f"{name}.py").write_text("raise SystemExit('a stranger was imported')")
    monkeypatch.chdir(theirs)
    with start("double", tmp_path) as process:
        process.wait_loaded()
        assert process.predict(ONE).sum() == 12


def test_both_sides_are_this_python() -> None:
    assert child.__name__ == "prefect_hone.runtimes.child"
    assert sys.version_info >= (3, 11), "python -P"
