"""What a process that was killed was writing is removed; what a living one writes is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_hone.ray_workers.store import asides
from prefect_hone.ray_workers.store.asides import aside_in, sweep


def test_it_is_removed_unless_it_is_renamed(tmp_path: Path) -> None:
    with aside_in(tmp_path / "artifacts") as aside:
        (aside / "file").write_text("x")
    with aside_in(tmp_path / "artifacts") as aside:
        aside.rename(tmp_path / "artifacts" / "kept")
    assert [p.name for p in (tmp_path / "artifacts").iterdir()] == ["kept"]


def test_a_killed_process_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os; from pathlib import Path\n"
        "from prefect_hone.ray_workers.store.asides import aside_in\n"
        f"with aside_in(Path({str(tmp_path)!r})) as a: os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(asides, "_swept", set())
    with aside_in(tmp_path) as aside:
        assert list(tmp_path.iterdir()) == [aside]
        sweep(tmp_path)
        assert aside.exists(), "a living process holds it"


def test_links_and_folders_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, precious = tmp_path / "artifacts", tmp_path / "precious"
    for folder in (parent, precious):
        folder.mkdir()
    name = f".aside-{asides._boot()}-x"
    (parent / name).symlink_to(precious)
    sweep(parent)
    assert precious.exists()
    (parent / name).unlink()
    (parent / name).mkdir()
    (parent / ".aside-othermachine-x").mkdir()
    monkeypatch.setattr(asides.os, "geteuid", lambda: os.getuid() + 1)
    sweep(parent)
    assert len(list(parent.iterdir())) == 2
