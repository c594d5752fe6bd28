"""Temporary folders are private, and gone once their process is, however it ended."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_hone.ray_workers import scratch
from prefect_hone.ray_workers.scratch import lasting_folder, ray_folder, scratch_folder, sweep
from prefect_hone.recipe.errors import HoneError


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A temporary folder that processes share; short, as Ray's sockets need.

    `tmp_path` comes first: pytest would make it in there.
    """
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(scratch, "_roots", {})
    yield folder
    shutil.rmtree(folder)


def left_by_a_killed_process(shared: Path) -> Path:
    code = (
        "import os; from prefect_hone.ray_workers.scratch import scratch_folder\n"
        "with scratch_folder('step') as f: (f / 'graph').write_text('x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(shared)})
    (root,) = shared.iterdir()
    assert len(list(root.glob("hone-step-*/graph"))) == 1
    return root


def test_they_are_private_and_removed(shared: Path) -> None:
    with scratch_folder("step") as folder:
        assert folder.name.startswith("hone-step-")
        for place in (folder, folder.parent):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not folder.exists()


def test_what_a_killed_process_left_is_removed_by_the_next(shared: Path) -> None:
    root = left_by_a_killed_process(shared)
    with scratch_folder("step"):
        assert not root.exists()


def test_what_a_living_process_uses_stays(shared: Path) -> None:
    with scratch_folder("step") as folder:
        code = "from prefect_hone.ray_workers.scratch import sweep; print(sweep())"
        said = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(shared)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said.stdout == "0\n"
        assert folder.exists()


def test_a_process_that_ends_leaves_nothing(shared: Path) -> None:
    code = "from prefect_hone.ray_workers.scratch import lasting_folder; lasting_folder('source')"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(shared)})
    assert list(shared.iterdir()) == []


@pytest.mark.parametrize("planted", ["link", "file", "other's"])
def test_what_is_not_ours_is_not_removed(
    shared: Path, tmp_path: Path, planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    place = shared / "hone-of-planted"
    if planted == "link":
        place.symlink_to(precious)
    elif planted == "file":
        place.write_text("")
    else:
        place.mkdir()
        monkeypatch.setattr(scratch.os, "geteuid", lambda: 4321)
    assert sweep() == 0
    assert place.exists()
    assert (precious / "file").read_text() == "mine"


def test_a_link_in_place_of_the_lock_is_not_followed(shared: Path, tmp_path: Path) -> None:
    (shared / "hone-of-planted").mkdir()
    (shared / "hone-of-planted" / ".held").symlink_to(tmp_path / "made")
    assert sweep() == 0
    assert not (tmp_path / "made").exists()


def test_another_users_child_can_reach_only_what_is_given_to_it(shared: Path) -> None:
    given, ours = lasting_folder("quarantine", reachable=True), lasting_folder("step")
    assert given.parent != ours.parent
    assert stat.S_IMODE(given.parent.stat().st_mode) == 0o711
    assert stat.S_IMODE(ours.parent.stat().st_mode) == 0o700


SOCKET = "session_2026-11-25_19-57-12_123456_1234567/sockets/plasma_store.1"


@pytest.fixture
def long(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder with a path that is too long for Ray's sockets."""
    folder = shared / ("x" * 60)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(scratch, "_roots", {})
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return folder


def test_a_ray_session_has_a_short_private_folder(long: Path) -> None:
    """Without one, Ray would use `/tmp/ray`, which is open to everybody and never removed."""
    found = ray_folder()
    assert len(str(found / SOCKET)) <= 107
    assert not list(long.iterdir())
    for folder in (found, found.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    scratch._remove(found.parent, os.getpid())


def test_a_folder_that_the_user_names_for_ray_comes_before_tmp(
    long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        assert ray_folder().is_relative_to(short)


def test_a_killed_runs_ray_folder_is_swept(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as short:
        code = (
            "import os; from prefect_hone.ray_workers.scratch import ray_folder; "
            "print(ray_folder(), flush=True); os.kill(os.getpid(), 9)"
        )
        environment = {**os.environ, "TMPDIR": str(long), "RAY_TMPDIR": short}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        left = Path(done.stdout.strip())
        assert left.is_dir()
        monkeypatch.setenv("RAY_TMPDIR", short)
        ray_folder()
        assert not left.exists()


def test_no_folder_for_ray_is_a_sentence(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_SHORT", ())
    with pytest.raises(HoneError, match="path of at most 14 bytes"):
        ray_folder()


def test_libraries_get_a_private_place(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    scratch.private_caches()
    cache = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    folder = scratch.process_folder()
    assert cache.parent == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    scratch.use_for_temporary_files(folder)
    assert Path(tempfile.mkdtemp()).parent == folder
    scratch.use_for_temporary_files(tmp_path / ("long" * 30))
    assert tempfile.gettempdir() == str(folder), "a socket in it would have too long a path"
