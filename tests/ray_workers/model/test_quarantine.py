"""The process that opens a stranger's file has nothing to lose, as far as the system allows it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import prefect_hone
import pytest
from prefect_hone.ray_workers.model import confinement, quarantine
from prefect_hone.recipe.errors import InputError

PROBE = """
import json, os, socket, subprocess, sys, urllib.request
from pathlib import Path
sys.path.append(sys.argv[1])
from prefect_hone.ray_workers.model.confinement import confine
home, secret, outside, port = Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
user = json.loads(sys.argv[6])
found = {"protections": confine([Path(sys.base_prefix), Path("/usr"), Path("/lib"), Path("/lib64")],
                                home, user, 20, 1000)}
def tried(name, action):
    try:
        action()
        found[name] = "done"
    except BaseException as error:
        found[name] = type(error).__name__
tried("home", lambda: (home / "mine").write_text("x"))
tried("secret", lambda: open(secret).read())
tried("write", lambda: open(outside, "w").write("x"))
tried("connect", lambda: socket.create_connection(("127.0.0.1", port), 2))
tried("run", lambda: subprocess.run(["/bin/sh", "-c", f"echo x > {outside}"], check=True))
tried("signal", lambda: os.kill(os.getppid(), 0))
tried("large", lambda: (home / "large").write_bytes(bytes(5000)))
tried("parent", lambda: open(f"/proc/{os.getppid()}/environ").read())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a confined process could do."""
    root = tmp_path_factory.mktemp("probe")
    home, secret = root / "home", root / "secret"
    home.mkdir()
    secret.write_text("key")
    user = confinement.own_user({sys.prefix, sys.base_prefix})
    if user is not None:
        os.chown(home, user, user)
        for folder in (root, root.parent):
            folder.chmod(0o711)
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [str(Path(prefect_hone.__file__).parents[1]), str(home), str(secret),
                     str(root / "outside"), str(server.getsockname()[1]), json.dumps(user)]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-I", "-c", PROBE, *arguments], capture_output=True, text=True,
            check=False, timeout=60, env={"LANG": "C.UTF-8", "SECRET": "x"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert not (root / "outside").exists() or "files" not in found["protections"]
    return found


def test_its_own_folder_is_all_that_it_writes_and_little_of_it(probed: dict[str, Any]) -> None:
    assert probed["home"] == "done"
    assert probed["large"] == "OSError"
    assert "limits" in probed["protections"]


def test_it_reads_writes_and_starts_nothing_else(probed: dict[str, Any]) -> None:
    if "files" not in probed["protections"]:
        pytest.skip("this system has no Landlock")
    assert probed["secret"] == "PermissionError"
    assert probed["write"] == "PermissionError"
    assert probed["run"] in ("PermissionError", "BlockingIOError")
    assert probed["parent"] in ("PermissionError", "FileNotFoundError")


def test_it_reaches_no_network(probed: dict[str, Any]) -> None:
    if "network" not in probed["protections"]:
        pytest.skip("this system allows no network namespace here")
    assert probed["connect"] != "done"


def test_a_user_of_its_own_where_this_process_may_choose_one() -> None:
    user = confinement.own_user([])
    assert (user is not None) is (sys.platform == "linux" and os.geteuid() == 0)
    assert confinement.own_user(["/nowhere"]) is None


def test_a_user_of_its_own_only_where_python_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    assert confinement.own_user([str(tmp_path / "private")]) is None
    assert confinement.own_user([], tmp_path / "private" / "given") is None


def test_no_variable_of_this_process_gets_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    assert "canary" not in quarantine._environment(tmp_path).values()


def test_what_a_library_refuses_is_told_and_nothing_is_left() -> None:
    with quarantine.quarantine() as apart:
        path = apart.folder / "model.onnx"
        path.write_bytes(b"\x08\x0a nothing")
        with pytest.raises(quarantine.OpeningFailed):
            apart.opened(path, "onnx", "model")
    assert not apart.folder.parent.exists()


def test_a_child_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "_SECONDS", 0)
    with quarantine.quarantine() as apart:
        path = apart.folder / "model.onnx"
        path.write_bytes(b"x")
        with pytest.raises(InputError, match="did not end within 0 s"):
            apart.opened(path, "onnx", "model")


@pytest.mark.parametrize("answer", [b"", b"[]", b"{", b"[" * 90_000])
def test_an_answer_is_not_trusted(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(quarantine, "_read", lambda *_: answer)
    with quarantine.quarantine() as apart:
        path = apart.folder / "model.onnx"
        path.write_bytes(b"x")
        with pytest.raises(InputError, match="a process of its own that opened it"):
            apart.opened(path, "onnx", "model")


def test_weights_from_a_child_are_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    assert quarantine._is_plain_file(tmp_path / "mine")
    assert not quarantine._is_plain_file(tmp_path / "link")
    os.link(tmp_path / "mine", tmp_path / "other")
    assert not quarantine._is_plain_file(tmp_path / "other")
    assert not quarantine._is_plain_file(tmp_path / "nothing")
