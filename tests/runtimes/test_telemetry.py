"""Libraries send nothing about what is done with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_hone.runtimes.telemetry import OFF, turn_off

#: Names that are looked up are told, and no answer comes: ONNX Runtime's own code asks for them
#: in C++, so its traces on the disk are looked for instead.
_PROGRAM = """
import json, socket, sys
asked = []
def resolve(host, *rest, **more):
    asked.append(host)
    raise OSError("no network")
socket.getaddrinfo = resolve
import {room}
import onnxruntime
sent = type(__import__("nncf").telemetry.telemetry).__name__ if sys.argv[1:] else None
print(json.dumps([asked, sent]))
"""


@pytest.mark.parametrize("room", ["prefect_hone", "prefect_hone.runtimes.opening"])
def test_onnx_runtime_leaves_no_identifier_behind(tmp_path: Path, room: str) -> None:
    """Nor its uploader's session and database; 1.29 and later have them unless it is told."""
    asked, _ = _imported(tmp_path, room)
    assert asked == []
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_nncf_has_no_sender(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    asked, sender = _imported(tmp_path, "prefect_hone", "nncf")
    assert sender != "NNCFTelemetry", "its stub is a mock"
    assert asked == []


def test_who_wants_it_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OFF:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    turn_off()
    assert {name: os.environ[name] for name in OFF} == {**OFF, "ORT_DISABLE_TELEMETRY": "0"}


def _imported(folder: Path, room: str, *arguments: str) -> tuple[list[str], str | None]:
    ours = {k: v for k, v in os.environ.items() if k not in OFF and k != "CI"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM.format(room=room), *arguments],
        env={**ours, "TMPDIR": str(folder), "HOME": str(folder), "XDG_CACHE_HOME": str(folder),
             "XDG_CONFIG_HOME": str(folder)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    asked, sender = json.loads(done.stdout)
    return asked, sender
