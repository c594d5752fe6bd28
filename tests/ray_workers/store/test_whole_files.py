"""Files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from prefect_hone.ray_workers.store import whole_files
from prefect_hone.ray_workers.store.whole_files import (
    copy_files,
    is_local,
    replace_file,
    write_whole,
)


def test_a_file_is_replaced_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for content in (b"one", b"two"):
        write_whole(fsspec.filesystem("file"), str(path), content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    replace_file(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(whole_files.os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_stores_of_other_kinds_get_it_in_one_piece(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    write_whole(memory, f"/{tmp_path.name}/x", b"content")
    assert memory.cat_file(f"/{tmp_path.name}/x") == b"content"
    assert not is_local(memory)
    assert is_local(fsspec.filesystem("file"))


def test_a_folder_is_copied_and_the_first_error_is_the_systems(tmp_path: Path) -> None:
    (tmp_path / "a" / "in").mkdir(parents=True)
    for name in ("x", "in/y"):
        (tmp_path / "a" / name).write_text(name)
    copy_files(tmp_path / "a", tmp_path / "b" / "c")
    assert (tmp_path / "b" / "c" / "in" / "y").read_text() == "in/y"
    (tmp_path / "d" / "x").mkdir(parents=True)
    (tmp_path / "d" / "x" / "x").mkdir()
    with pytest.raises(IsADirectoryError):
        copy_files(tmp_path / "a", tmp_path / "d")
