"""A GCS that dies or hangs while Ray starts: a second start, and then a sentence."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect_hone.ray_workers import ray_private, ray_start
from prefect_hone.ray_workers.cluster import Cluster
from prefect_hone.ray_workers.ray_start import GcsSilent, Watch, join, start_here
from prefect_hone.ray_workers.ray_watch import last_error
from prefect_hone.recipe.errors import HoneError, ServerUnreachable


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_private, "give_up", lambda: None)
    monkeypatch.setattr("prefect_hone.ray_workers.access.own_token", contextlib.nullcontext)


def failing(*errors: Exception | None) -> tuple[list[Path], Callable[[Watch, Path], None]]:
    """The folders that it was started in, and a start that fails in this way, one after the other."""
    folders: list[Path] = []

    def start(_: Watch, folder: Path) -> None:
        folders.append(folder)
        logs = folder / "session_2026" / "logs"
        logs.mkdir(parents=True)
        (logs / "gcs_server.err").write_text("why")
        error = errors[len(folders) - 1]
        if error is not None:
            raise error

    return folders, start


@pytest.mark.parametrize(
    "error",
    [
        GcsSilent("127.0.0.1:1"),
        RuntimeError("Failed to start GCS."),
        TimeoutError("gcs_server_port"),
    ],
    ids=["silent", "dead", "no port"],
)
def test_a_start_whose_gcs_fails_is_made_once_more(tmp_path: Path, error: Exception) -> None:
    folders, start = failing(error, None)
    with contextlib.ExitStack() as undone:
        start_here(start, undone, tmp_path)
        assert [folder.exists() for folder in folders] == [False, True]
    assert not folders[1].exists()
    (kept,) = tmp_path.iterdir()
    assert (kept / "gcs_server.err").read_text() == "why"


def test_two_such_starts_are_an_error_that_names_the_logs(tmp_path: Path) -> None:
    folders, start = failing(GcsSilent(""), GcsSilent(""))
    with pytest.raises(HoneError, match="stopped answering while Ray was starting, in 2") as found:
        start_here(start, contextlib.ExitStack(), tmp_path)
    assert Path(str(found.value.where)).parent == tmp_path
    assert not any(folder.exists() for folder in folders)


def test_what_is_not_of_the_gcs_is_not_tried_again(tmp_path: Path) -> None:
    folders, start = failing(RuntimeError("no memory for the object store"))
    with pytest.raises(HoneError, match="can't be started here: no memory for the object store"):
        start_here(start, contextlib.ExitStack(), tmp_path)
    assert len(folders) == 1
    assert list(tmp_path.iterdir()), "its logs are kept, too"


def test_a_start_that_takes_too_long_keeps_its_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, start = failing(None)
    cluster = Cluster(start_timeout=0.0, logs=tmp_path / "logs")
    cluster._watch = Watch(None, cluster.logs, tmp_path / "ray")
    start(cluster._watch, tmp_path / "ray")
    monkeypatch.setattr(cluster, "prepare", lambda: None)
    with pytest.raises(ServerUnreachable, match="Ray did not start within") as found:
        cluster.start()
    assert (Path(str(found.value.where)) / "gcs_server.err").read_text() == "why"
    assert "that folder has the end of Ray's logs" in str(found.value.do)


def test_a_gcs_that_accepts_and_is_silent_is_found_before_the_core_worker_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_start, "_SECONDS", 0.05)
    monkeypatch.setattr(ray_start, "_PATIENCE", 0.1)
    monkeypatch.setattr(ray_start, "_PAUSE", 0.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(ray_private, "connecting", lambda: (address, ""))
        with pytest.raises(GcsSilent):
            Watch(None, None).begin()
        with pytest.raises(ServerUnreachable, match="stopped answering while it was joined"):
            join(lambda watch: watch.begin(), address)
    with pytest.raises(GcsSilent):
        Watch(None, None).begin()  # nothing listens any more


@pytest.mark.slow
@pytest.mark.parametrize("at", ["before", pytest.param("meanwhile", marks=pytest.mark.nightly)])
def test_what_ends_a_run_while_ray_starts_can_still_be_said(at: str) -> None:
    """Its GCS ended while it connects, Ray ends the process after 60 s, without a word of ours."""
    code = f"""
import os, sys, threading, time
from prefect_hone.ray_workers.cluster import Cluster
before, begin = threading.Event(), Cluster._begin
def begun(self, watch, connecting):
    if "{at}" == "before":
        before.set()
        time.sleep(3)  # it is closed meanwhile
        begin(self, watch, connecting)
    else:
        begin(self, watch, connecting)
        before.set()
        time.sleep(3)
Cluster._begin = begun
cluster = Cluster()
cluster.prepare()
before.wait()
cluster.close()
ready = cluster._ready.wait(30)
print("said", ready, type(cluster._error).__name__)
sys.stdout.flush()
os._exit(4)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    expected = "said True HoneError" if at == "before" else "said True NoneType"
    assert (done.returncode, done.stdout.split("\n")[0]) == (4, expected), done.stderr
    assert "connect" not in done.stderr


def test_the_last_error_of_a_log_of_ray(tmp_path: Path) -> None:
    log = tmp_path / "raylet.out"
    assert last_error(log) is None
    log.write_text("[2026-11-30 10:46:32,209 I 1 2] (raylet) node.cc:1: all is well\n")
    assert last_error(log) is None
    said = (
        "The raylet exited immediately because one Ray agent failed, agent_name = dashboard_agent."
    )
    with log.open("ab") as file:
        file.write(
            b"[2026-11-30 10:46:32,205 E 1 3] (raylet) agent_manager.cc:87: " + said.encode()
        )
        file.write(b"\n\xff[state-dump] ] E :\n")
        file.write(b"[2026-11-30 10:46:39,255 E 1 1] (raylet) main.cc:1: Failed; no metrics.\n")
    assert last_error(log) == said


@pytest.mark.slow
@pytest.mark.parametrize("which", ["raylet", pytest.param("gcs_server", marks=pytest.mark.nightly)])
def test_a_head_that_ends_while_it_is_used_is_told_within_seconds(
    tmp_path: Path, which: str
) -> None:
    """Without a GCS, Ray ends the process after 60 s; without a raylet, steps wait for ever."""
    code = f"""
import os, sys, time
from pathlib import Path
from prefect_hone.ray_workers.cluster import Cluster
from prefect_hone.recipe.errors import HoneError
cluster = Cluster(logs=Path(sys.argv[1]))
cluster.start()
assert cluster.gone() is None
assert cluster.capacity().cpus > 0
cluster._heads["{which}"].kill()
assert cluster.cancelled.wait(20)
try:
    cluster.capacity()
except HoneError as error:
    print(error)
began = time.monotonic()
cluster.close()
print("abandoned", cluster.abandoned, time.monotonic() - began < 10)
sys.stdout.flush()
os._exit(4)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "logs")],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    sentence, do, closed = done.stdout.splitlines()
    (kept,) = (tmp_path / "logs").iterdir()
    assert sentence.startswith(f"{kept}: Ray's ")
    assert "process (the" in sentence
    assert "ended while the run used it" in sentence
    assert "run this again, what was computed is kept" in do
    assert closed == "abandoned True True"


@pytest.mark.slow
@pytest.mark.nightly
def test_ray_stays_where_python_has_no_assertions_and_docstrings() -> None:
    """Ray's agents end then, with exit code 0, and its node with them."""
    code = (
        "from prefect_hone.ray_workers.cluster import Cluster\n"
        "cluster = Cluster()\n"
        "cluster.start()\n"
        "cluster.cancelled.wait(25)\n"
        "print(cluster.gone(), cluster.capacity().cpus > 0)\n"
        "cluster.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONOPTIMIZE": "2"},
    )  # fmt: skip
    assert done.stdout == "None True\n", done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("how", ["kill", "suspend"])
def test_a_real_gcs_that_goes_away_at_its_first_start(tmp_path: Path, how: str) -> None:
    code = f"""
import sys
from pathlib import Path
import psutil
from prefect_hone.ray_workers import ray_private, ray_start
from prefect_hone.ray_workers.cluster import Cluster
begin, starts = ray_start.Watch.begin, []
def begun(watch):
    starts.append(watch)
    for process in psutil.Process().children(recursive=True):
        if "gcs_server" in process.name() and len(starts) == 1:
            process.{how}()
    begin(watch)
ray_start.Watch.begin = begun
cluster = Cluster(logs=Path(sys.argv[1]))
cluster.start()
import ray
print(len(starts), ray.get(ray.remote(lambda: 3).remote()))
cluster.close()
assert not ray_private.own_processes()
"""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_AUTH", "RAY_ADD"))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=clean, check=False, capture_output=True,
        text=True, timeout=480,
    )  # fmt: skip
    assert done.stdout.split() == ["2", "3"], done.stderr
    (kept,) = tmp_path.iterdir()
    assert (kept / "gcs_server.out").stat().st_size
