"""The manifest lists every file of a model, and reading one that somebody made up does no harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone.runtimes.manifest import (
    DOWNLOADED,
    MANIFEST,
    differences,
    manifest_digest,
    model_files,
    read_manifest,
    that_matter,
    write_manifest,
)


def model(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors")
    (folder / "data" / "model.onnx").write_text("graph")
    return folder


def test_it_lists_all_files_but_itself(tmp_path: Path) -> None:
    files = write_manifest(model(tmp_path))
    assert set(files) == {"MLmodel", "data/model.onnx", MANIFEST}
    assert read_manifest(tmp_path) == {p: d for p, d in files.items() if p != MANIFEST}
    (tmp_path / DOWNLOADED).write_text("by MLflow")
    assert model_files(tmp_path) == files


def test_every_change_changes_the_digest(tmp_path: Path) -> None:
    files = write_manifest(model(tmp_path))
    seen = {manifest_digest(files)}
    for name in ("MLmodel", "data/model.onnx", MANIFEST, "data/more", "code.py"):
        (tmp_path / name).write_text("changed")
        seen.add(manifest_digest(model_files(tmp_path)))
    assert len(seen) == 6
    changed = differences(files, model_files(tmp_path))
    assert changed == ["MLmodel", "code.py", "data/model.onnx", "data/more", MANIFEST]


def test_what_lies_at_the_top_unlisted_does_not_matter_at_load(tmp_path: Path) -> None:
    write_manifest(model(tmp_path))
    listed = read_manifest(tmp_path) or {}
    for name in ("notes.txt", "data/more"):
        (tmp_path / name).write_text("")
    found = that_matter(model_files(tmp_path), listed)
    assert "notes.txt" not in found
    assert "data/more" in found


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"files": []}', '{"files": {"a": 3}}', "[" * 10**5, "null"]
)
def test_a_made_up_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=r"."):
        read_manifest(tmp_path)
