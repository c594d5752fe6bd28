"""Artifacts are what was written, or an error; nothing leads out of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from prefect_hone.ray_workers.store.artifacts import (
    Artifact,
    ArtifactCorrupted,
    Store,
    describe,
    safe_join,
    verify_kept,
)
from prefect_hone.ray_workers.store.seal import OwnerKey
from prefect_hone.recipe.errors import StoreError
from prefect_hone.runtimes.digest import tree_digest


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    url = str(tmp_path / "store") if request.param == "local" else f"memory://{tmp_path.name}"
    return Store(url, tmp_path / "cache", OwnerKey(tmp_path))


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        target = path / name.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return path


def test_what_is_put_comes_back(store: Store, tmp_path: Path) -> None:
    artifact = store.put(folder(tmp_path / "a", model="weights", sub__more="x"), "weights")
    found = store.fetch(artifact)
    assert (found / "model").read_text() == "weights"
    assert (found / "sub/more").read_text() == "x"
    assert artifact.bytes == 8
    assert artifact.uri.endswith(artifact.sha256)


def test_the_same_content_is_the_same_artifact(store: Store, tmp_path: Path) -> None:
    first = store.put(folder(tmp_path / "a", m="1"), "x")
    assert store.put(folder(tmp_path / "b", m="1"), "x") == first
    assert store.put(folder(tmp_path / "c", m="2"), "x").sha256 != first.sha256
    assert store.put(folder(tmp_path / "d", n="1"), "x").sha256 != first.sha256


def test_a_changed_byte_is_noticed_and_mended_by_putting_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    source = folder(tmp_path / "a", model="weights")
    artifact = store.put(source, "weights")
    (Path(artifact.uri) / "model").write_text("weightz")
    with pytest.raises(ArtifactCorrupted, match="corrupted"):
        store.fetch(artifact)
    store.put(source, "weights")
    assert (store.fetch(artifact) / "model").read_text() == "weights"


def test_a_corrupted_download_is_fetched_again(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}-download", tmp_path / "cache")
    artifact = store.put(folder(tmp_path / "a", model="weights"), "weights")
    (store.fetch(artifact) / "model").write_text("broken")
    assert (store.fetch(artifact) / "model").read_text() == "weights"


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a\\..\\b"])
def test_a_path_can_not_lead_out(tmp_path: Path, path: str) -> None:
    with pytest.raises(StoreError, match="leads out"):
        safe_join(tmp_path, path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "a", model="x")
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(StoreError, match="link"):
        describe(source, "x", "")


def test_records_are_whole_or_absent(store: Store) -> None:
    assert store.read_record("steps/train/1.json") is None
    store.write_record("steps/train/1.json", {"a": 1})
    assert store.read_record("steps/train/1.json") == {"a": 1}
    store.delete_record("steps/train/1.json")
    assert store.read_record("steps/train/1.json") is None


def test_a_half_written_record_counts_as_none(tmp_path: Path) -> None:
    store = Store(str(tmp_path), tmp_path / "cache", OwnerKey(tmp_path))
    folder(tmp_path / "steps", x='{"outputs": {')
    assert store.read_record("steps/x") is None


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)  # of each of several files
    with pytest.raises(StoreError) as caught:
        store.put(folder(tmp_path / "a", m="1", n="2"), "x")
    assert "no space left" in str(caught.value)
    assert "HONE_STORE" in str(caught.value)
    assert "[" not in str(caught.value)
    assert "too few inodes are free" in str(caught.value), "there is room for two bytes"
    assert not list((tmp_path / "store/artifacts").iterdir()), "nothing half-written stays"


def test_an_unknown_kind_of_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="HONE_STORE=nosuch://x"):
        Store("nosuch://x", tmp_path)


# Attacks, by somebody who can write files to the store.

DIGEST = "a" * 64


@pytest.mark.parametrize(
    "changed",
    [
        {"sha256": "../../../etc"}, {"sha256": "/etc"}, {"sha256": "A" * 64},
        {"sha256": f"{DIGEST}\n"}, {"sha256": DIGEST},
        {"files": {}}, {"files": {"m": "x"}}, {"files": {"../m": DIGEST}},
        {"files": {"/etc/passwd": DIGEST}}, {"files": {"a//b": DIGEST}}, {"files": {"./a": DIGEST}},
        {"files": {"a\nb": DIGEST}}, {"files": {"": DIGEST}},
    ],
)  # fmt: skip
def test_a_list_that_lies_is_no_artifact(tmp_path: Path, changed: dict[str, Any]) -> None:
    honest = describe(folder(tmp_path / "a", model="weights"), "weights", "").model_dump()
    Artifact.model_validate(honest)
    lie = {**honest, **changed}
    if "files" in changed:
        lie["sha256"] = tree_digest(changed["files"])
    with pytest.raises(ValueError, match="Artifact"):
        Artifact.model_validate(lie)


def plant(place: Path, what: str, tmp_path: Path) -> None:
    """What somebody lays beside the files of an artifact."""
    if what == "package":
        (place / "model").mkdir()
        (place / "model" / "__init__.py").write_text("raise SystemExit('executed')")
    elif what == "bytecode":
        (place / "__pycache__").mkdir()
        (place / "__pycache__" / "model.cpython-312.pyc").write_bytes(b"x")
    elif what == "file":
        (place / "sitecustomize.py").write_text("raise SystemExit('executed')")
    elif what == "link":
        (place / "more").symlink_to("/etc/passwd")
    elif what == "link to itself":
        kept = (place / "model.py").rename(tmp_path / "same.py")
        (place / "model.py").symlink_to(kept)
    elif what == "linked folder":
        place.rename(tmp_path / "moved")
        place.symlink_to(tmp_path / "moved")
    elif what == "pipe":
        os.mkfifo(place / "more")
    elif what == "fewer":
        (place / "second.py").unlink()
    elif what == "pipe in place":
        (place / "model.py").unlink()
        os.mkfifo(place / "model.py")


PLANTED = [
    "package", "bytecode", "file", "link", "link to itself", "linked folder", "pipe", "fewer",
    "pipe in place",
]  # fmt: skip


def code(path: Path) -> Path:
    path.mkdir()
    (path / "model.py").write_text("good = True")
    (path / "second.py").write_text("")
    return path


@pytest.mark.parametrize("what", PLANTED)
def test_what_lies_beside_the_files_is_refused(tmp_path: Path, what: str) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    artifact = store.put(code(tmp_path / "code"), "code")
    plant(Path(artifact.uri), what, tmp_path)
    with pytest.raises(ArtifactCorrupted, match="corrupted"):
        store.fetch(artifact)
    store.put(tmp_path / "code", "code")
    assert sorted(p.name for p in store.fetch(artifact).iterdir()) == ["model.py", "second.py"]


@pytest.mark.parametrize("what", PLANTED)
def test_the_cache_of_a_remote_store_is_downloaded_anew(tmp_path: Path, what: str) -> None:
    store = Store(f"memory://{tmp_path.name}-{what}", tmp_path / "cache")
    artifact = store.put(code(tmp_path / "code"), "code")
    plant(store.fetch(artifact), what, tmp_path)
    found = store.fetch(artifact)
    assert not found.is_symlink()
    assert sorted(p.name for p in found.iterdir()) == ["model.py", "second.py"]


def test_a_corrupted_remote_artifact_is_put_again(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}-again", tmp_path / "cache")
    artifact = store.put(code(tmp_path / "code"), "code")
    store.fs.pipe_file(f"{store.root}/artifacts/{artifact.sha256}/model.py", b"bad = True")
    with pytest.raises(ArtifactCorrupted, match="corrupted"):
        store.fetch(artifact)
    store.put(tmp_path / "code", "code")
    assert (store.fetch(artifact) / "model.py").read_text() == "good = True"


def test_a_kept_model_is_verified_by_its_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    artifact = store.put(folder(tmp_path / "a", model="weights"), "model")
    verify_kept(artifact.uri)
    verify_kept(f"{artifact.uri}/model")
    verify_kept(str(tmp_path / "a" / "model"))
    (Path(artifact.uri) / "model").write_text("weightz")
    with pytest.raises(ArtifactCorrupted, match="missing or corrupted"):
        verify_kept(f"{artifact.uri}/model")
    with pytest.raises(ArtifactCorrupted, match="missing or corrupted"):
        verify_kept(f"s3://x/artifacts/{DIGEST}/model", tmp_path / "a")
