"""HONE_HOME is its user's own, and one that can't be used is told in a sentence."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect_hone.flows.engine import home as module
from prefect_hone.flows.engine.home import open_home, private_files, require_writable
from prefect_hone.flows.engine.settings import Settings
from prefect_hone.recipe.errors import StoreError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def settings(home: Path, store: str | None = None) -> Settings:
    return Settings(
        home=home, store=store or str(home / "store"), tracking="", artifacts=None, ray_address=None
    )


def test_a_new_home_is_private(tmp_path: Path) -> None:
    open_home(tmp_path / "deep" / "home")
    assert mode(tmp_path / "deep" / "home") == 0o700


def test_an_open_home_is_closed_with_what_lies_in_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "journal").mkdir(parents=True)
    (home / "mlflow.db").write_text("")
    (tmp_path / "elsewhere").write_text("")
    (home / "link").symlink_to(tmp_path / "elsewhere")
    for path in (home, home / "journal"):
        path.chmod(0o777)
    for path in (home / "mlflow.db", tmp_path / "elsewhere"):
        path.chmod(0o664)
    open_home(home)
    assert mode(home) == mode(home / "journal") == 0o700
    assert mode(home / "mlflow.db") == 0o600
    assert mode(tmp_path / "elsewhere") == 0o664, "links are not followed"


def test_another_users_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setattr(module.os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StoreError, match="it belongs to another user"):
        open_home(tmp_path)
    assert mode(tmp_path) == 0o777


def test_a_read_only_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    with pytest.raises(StoreError, match="it can't be written"):
        open_home(tmp_path)


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "home", tmp_path / "file"):
        with pytest.raises(StoreError, match="HONE_HOME can't be used"):
            open_home(place)


def test_what_a_run_writes_to_is_looked_at_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what does not exist yet: the disk that it will be on counts."""
    full = {str(tmp_path / name) for name in ("prefect", "store")}
    real = os.statvfs

    def statvfs(path: Path) -> Any:
        if str(path) not in full:
            return real(path)
        return SimpleNamespace(f_flag=0, f_bavail=0, f_frsize=4096, f_files=0, f_favail=0)

    monkeypatch.setattr(os, "statvfs", statvfs)
    for name in full:
        Path(name).mkdir()
    require_writable(settings(tmp_path / "home", "s3://bucket/store"))
    for given in (
        (settings(tmp_path / "home", str(tmp_path / "store" / "deep")),),
        (settings(tmp_path / "home"), tmp_path / "prefect"),
    ):
        with pytest.raises(StoreError, match="no space or no inodes are left"):
            require_writable(*given)


def test_files_of_a_run_are_private(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with private_files(settings(tmp_path)):
            (tmp_path / "journal").write_text("")
        (tmp_path / "mine").write_text("")
        with private_files(settings(tmp_path / "home", str(tmp_path / "shared"))):
            (tmp_path / "shared").write_text("")
    finally:
        os.umask(before)
    assert mode(tmp_path / "journal") == 0o600
    assert mode(tmp_path / "mine") == 0o644
    assert mode(tmp_path / "shared") == 0o644, "a team's store is as open as its user says"


def test_commands_on_the_registry_say_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HONE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StoreError, match="HONE_HOME can't be used"):
        module.usable_settings()
