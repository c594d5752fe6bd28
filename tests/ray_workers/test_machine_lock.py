"""One measurement at a time: attacks on what keeps them apart, and how a wait ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from prefect_hone.ray_workers import machine_lock
from prefect_hone.ray_workers.machine_lock import Holder, alone
from prefect_hone.ray_workers.store.file_lock import locked
from prefect_hone.recipe.errors import StepTimeout

linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")


@pytest.fixture
def name() -> str:
    return f"hone-test-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture(params=["kernel", "file"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        monkeypatch.setattr(machine_lock.sys, "platform", "other")
    elif sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    return request.param


def test_the_second_waits_for_the_first_and_says_so(kind: str, name: str, tmp_path: Path) -> None:
    told: list[str] = []
    order: list[str] = []
    entered = threading.Event()

    def first() -> None:
        with alone(told.append, tmp_path, name=name):
            entered.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(5)
    with alone(told.append, tmp_path, name=name):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert len(told) == 1
    assert "another measurement" in told[0]
    if kind == "kernel":
        assert f"process {os.getpid()} of " in told[0]


def test_a_measurement_of_ones_own_that_does_not_end_is_an_error(
    kind: str, name: str, tmp_path: Path
) -> None:
    with (
        alone(lambda _: None, tmp_path, name=name),
        pytest.raises(StepTimeout, match="has been measuring on this machine"),
        alone(lambda _: None, tmp_path, limit=0.1, name=name),
    ):
        pass


@linux
def test_another_user_can_not_hold_it_for_ever(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with alone(told.append, tmp_path, name=name):
        monkeypatch.setattr(machine_lock, "_holder", lambda _: Holder(7, os.geteuid() + 1))
        with alone(told.append, tmp_path, limit=0.1, name=name):
            told.append("measured")
    assert "process 7 of" in told[1]
    assert "measuring anyway" in told[1]
    assert told[2] == "measured"


@linux
def test_one_who_takes_the_name_and_answers_nobody_can_not_hold_it_for_ever(
    name: str, tmp_path: Path
) -> None:
    told: list[str] = []
    with socket.socket(socket.AF_UNIX) as hostile:
        hostile.bind(f"\0{name}")
        with alone(told.append, tmp_path, limit=0.1, name=name):
            pass
    assert "measuring anyway" in told[-1]


@linux
def test_it_is_free_when_its_holder_was_killed(name: str, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from prefect_hone.ray_workers.machine_lock import alone\n"
        f"with alone(print, Path({str(tmp_path)!r}), name={name!r}):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
    finally:
        holder.kill()
        holder.communicate()
    told: list[str] = []
    with alone(told.append, tmp_path, limit=5, name=name):
        pass


@pytest.fixture
def shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("planted", ["link", "folder"])
def test_nothing_in_the_temporary_folder_is_touched(
    kind: str, name: str, tmp_path: Path, shared_folder: Path, planted: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    precious.chmod(0o600)
    place = shared_folder / "hone-benchmark.lock"
    place.symlink_to(precious) if planted == "link" else place.mkdir()
    with alone(lambda _: None, tmp_path / "home", name=name):
        assert [p.name for p in shared_folder.iterdir()] == ["hone-benchmark.lock"]
    assert precious.stat().st_mode & 0o777 == 0o600
    assert precious.read_text() == "mine"


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "made")
    with (
        pytest.raises(OSError, match="link"),
        locked(tmp_path / "lock", lambda: None, 1),
    ):
        pass
    assert not (tmp_path / "made").exists()


def test_where_nothing_can_be_locked_it_measures_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_lock.sys, "platform", "other")
    (tmp_path / "file").write_text("")
    told: list[str] = []
    with alone(told.append, tmp_path / "file"):
        told.append("measured")
    assert "can't be kept apart here" in told[0]
    assert told[1] == "measured"


def test_a_wait_for_a_lock_ends_when_the_run_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        locked(path, lambda: None, 1),
        pytest.raises(InterruptedError),
        locked(path, lambda: None, 60, stop=lambda: True),
    ):
        pass
    assert not path.exists()
