"""A process that hangs or dies while it connects to Ray is told from outside, and Ray's logs are kept."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_hone.ray_workers import ray_watch


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a GCS that accepts and says nothing."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


@pytest.fixture
def starting() -> Iterator[subprocess.Popen[bytes]]:
    """A process that hangs."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def session(tmp_path: Path, driver: str = "") -> Path:
    logs = tmp_path / "session" / "logs"
    logs.mkdir(parents=True)
    (logs / "gcs_server.out").write_text("x" * ray_watch._TAIL + "the last words")
    (logs / "gcs_server.err").write_text("")
    (logs / "python-core-driver-01_1.log").write_text(driver)
    return logs.parent


def watching(starting: int, port: int, folder: Path, **more: str) -> subprocess.Popen[bytes]:
    asked = {
        "host": "127.0.0.1", "port": str(port), "pid": str(starting), "session": str(folder),
        "logs": str(folder.parent / "kept"), "joined": "", "silence": "0.2", "refusal": "60",
        "ended": "55", "json": "", **more,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-I", "-S", ray_watch.__file__, json.dumps(asked)],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_gcs_that_accepts_and_is_silent_ends_the_process_with_a_sentence(
    tmp_path: Path, silent: int, starting: subprocess.Popen[bytes]
) -> None:
    child = watching(starting.pid, silent, session(tmp_path))
    assert starting.wait(30) == -signal.SIGKILL
    said = child.communicate(timeout=30)[1].decode()
    (kept,) = (tmp_path / "kept").iterdir()
    assert said.startswith(f"hone: {kept}: Ray's head process (the GCS) stopped answering while")
    assert said.count("\n") == 2
    assert "→ run this again" in said
    assert [path.name for path in kept.iterdir()] == ["gcs_server.out"], "empty logs say nothing"
    words = (kept / "gcs_server.out").read_text()
    assert len(words) == ray_watch._TAIL
    assert words.endswith("the last words")


def test_a_cluster_that_was_joined_is_told_by_its_address_as_json_where_logs_are(
    tmp_path: Path, silent: int, starting: subprocess.Popen[bytes]
) -> None:
    child = watching(starting.pid, silent, tmp_path, session="", joined="head:6379", json="yes")
    assert starting.wait(30) == -signal.SIGKILL
    said = json.loads(child.communicate(timeout=30)[1])
    assert said["level"] == "error"
    assert said["message"].startswith("RAY_ADDRESS=head:6379: the Ray cluster stopped answering")
    assert not (tmp_path / "kept").exists()


def test_a_port_that_refuses_is_a_gcs_that_died(
    tmp_path: Path, starting: subprocess.Popen[bytes]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        child = watching(starting.pid, port, session(tmp_path), silence="60", refusal="0.1")
        assert starting.wait(30) == -signal.SIGKILL
    assert b"stopped answering" in child.communicate(timeout=30)[1]


@pytest.mark.parametrize(
    ("over", "driver", "told"),
    [
        (b".", "C 1 2] Failed to connect to GCS within 60 seconds", False),
        (b"", "I 1 2] connected", False),
        (b"", "E 1 2] Failed to register worker to Raylet: IOError", True),
    ],
    ids=["started", "killed by somebody", "ended by Ray"],
)
def test_only_a_process_that_ray_ended_is_told_of(
    tmp_path: Path,
    silent: int,
    starting: subprocess.Popen[bytes],
    over: bytes,
    driver: str,
    told: bool,
) -> None:
    child = watching(starting.pid, silent, session(tmp_path, driver), silence="60")
    said = child.communicate(over, timeout=30)[1]
    assert (b"stopped answering" in said) == told
    assert starting.poll() is None


def test_a_process_that_is_gone_after_rays_limit_was_ended_by_ray(
    tmp_path: Path, silent: int, starting: subprocess.Popen[bytes]
) -> None:
    """If Ray's logs are not begun, nothing but the time says so."""
    child = watching(starting.pid, silent, session(tmp_path), silence="60", ended="0")
    said = child.communicate(b"", timeout=30)[1]
    assert b"stopped answering" in said
    assert starting.poll() is None


def test_what_a_long_start_does_is_noted(tmp_path: Path) -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        client.connect(("127.0.0.1", port))
        state = ray_watch.state_of(os.getpid(), port)
    assert f":{port:04X} " in state
    assert f"thread {os.getpid()} (" in state
    kept = ray_watch.keep_logs(session(tmp_path), tmp_path / "kept", state)
    assert kept is not None
    assert (kept / "state.txt").read_text() == state


def test_logs_of_few_starts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, logs = session(tmp_path), tmp_path / "kept"
    for number in range(ray_watch._KEPT + 2):
        monkeypatch.setattr("time.strftime", lambda *_, n=number: f"2026113{n}-000000")
        assert ray_watch.keep_logs(folder, logs) is not None
    assert len(list(logs.iterdir())) == ray_watch._KEPT
    (logs / "file").touch()
    assert ray_watch.keep_logs(folder, logs / "file") is None, "a full disk is no reason to fail"
