"""Disks that are full, read-only or without inodes, and another user's folders, for real.

Each is one sentence with an exit code, and leaves no half record. Needs root, to mount and to be
another user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect_hone.ray_workers.store.artifacts import Store
from prefect_hone.ray_workers.store.seal import OwnerKey
from prefect_hone.recipe.errors import StoreError
from prefect_hone.recipe.machine_errors import folder_error

FULL, READ_ONLY = "no space or no inodes are left on the disk", "the file system is read-only"
KINDS = {"size=16k": FULL, "nr_inodes=1": FULL, "ro": READ_ONLY}
NOBODY = 54321
Disk = Callable[[str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a small file system with these options."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("a small file system can't be mounted here (needs root)")
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("a small file system can't be mounted here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def one_sentence(said: str) -> str:
    assert "Traceback" not in said
    assert "Errno" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("hone: ")]
    return line


@pytest.mark.parametrize("where", ["HONE_HOME", "HONE_STORE", "PREFECT_HOME"])
@pytest.mark.parametrize("options", KINDS)
def test_a_run_is_refused_before_it_starts_anything(
    hone: Any, project: Path, disk: Disk, where: str, options: str
) -> None:
    place = disk(options)
    done = hone.answer("run", str(project / "recipe.yaml"), **{where: str(place)})
    assert done.returncode == 1
    line = one_sentence(done.stdout + done.stderr)
    assert str(place) in line
    if where == "HONE_HOME" and options == "ro":
        assert "it can't be written" in line
    elif where == "HONE_HOME":
        assert FULL in line
    else:
        assert KINDS[options] in line


def filled(place: Path, left: int) -> Path:
    """Leave so much space (bytes), in a file that can be removed."""
    filler = place / "filler"
    said = os.statvfs(place)
    filler.write_bytes(b"x" * (said.f_bavail * said.f_frsize - left))
    return filler


@pytest.mark.parametrize("options", ["size=256k", "size=1m,nr_inodes=16"])
def test_a_store_that_gets_full_keeps_what_it_had_and_nothing_half(
    tmp_path: Path, disk: Disk, options: str
) -> None:
    place = disk(options)
    store = Store(str(place / "store"), tmp_path / "cache", OwnerKey(tmp_path / "home"))
    code = tmp_path / "code"
    code.mkdir()
    for i in range(20):
        (code / f"{i}.py").write_text(f"{i}\n" * 6000)
    store.write_record("steps/a/1.json", {"done": 1})
    with pytest.raises(StoreError, match="no space left"):
        store.put(code, "code")
    assert not list((place / "store" / "artifacts").iterdir())
    if options == "size=256k":
        filler = filled(place, 0)
        with pytest.raises(StoreError, match="no space left"):
            store.write_record("steps/a/1.json", {"done": "x" * 9000})
        filler.unlink()
    assert store.read_record("steps/a/1.json") == {"done": 1}
    assert [p.name for p in (place / "store" / "steps" / "a").iterdir()] == ["1.json"]


def test_a_disk_that_can_be_written(disk: Disk) -> None:
    assert folder_error(disk("size=1m")) is None


AS_ANOTHER = """
import os, sys
from pathlib import Path
from prefect_hone.flows.engine.home import open_home, require_writable
from prefect_hone.flows.engine.settings import Settings
from prefect_hone.recipe.errors import HoneError
home, theirs = Path(sys.argv[1]), Path(sys.argv[2])
os.setgroups([])
os.setresgid(54321, 54321, 54321)
os.setresuid(54321, 54321, 54321)
for look in (
    lambda: open_home(theirs),
    lambda: require_writable(Settings(home, str(theirs), "", None, None)),
):
    try:
        look()
        print("let in")
    except HoneError as error:
        print(str(error).splitlines()[0])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_another_users_home_and_store(tmp_path: Path, mode: int) -> None:
    home, theirs = tmp_path / "home", tmp_path / "theirs"
    for folder in (home, theirs):
        folder.mkdir()
    theirs.chmod(mode)
    os.chown(home, NOBODY, NOBODY)
    above = [p for p in tmp_path.parents if p != Path("/") and not p.stat().st_mode & 0o005]
    modes = {p: p.stat().st_mode for p in [tmp_path, *above]}
    try:
        for folder in modes:
            folder.chmod(0o755)  # pytest's are the user's own
        done = subprocess.run(
            [sys.executable, "-P", "-c", AS_ANOTHER, str(home), str(theirs)],
            capture_output=True, text=True,
        )  # fmt: skip
    finally:
        for folder, before in modes.items():
            folder.chmod(before)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "HONE_HOME can't be used: it belongs to another user" in first
    assert f"{theirs}: a file or folder can't be accessed: permission denied" in second
