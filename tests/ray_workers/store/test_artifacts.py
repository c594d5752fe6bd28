"""Artifacts are what was written, or an error; nothing leads out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone.ray_workers.store.artifacts import ArtifactCorrupted, Store, describe, safe_join
from prefect_hone.recipe.errors import StoreError


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    url = str(tmp_path / "store") if request.param == "local" else f"memory://{tmp_path.name}"
    return Store(url, tmp_path / "cache")


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
    store = Store(str(tmp_path), tmp_path / "cache")
    folder(tmp_path / "steps", x='{"outputs": {')
    assert store.read_record("steps/x") is None


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(StoreError) as caught:
        store.put(folder(tmp_path / "a", m="1"), "x")
    assert "no space left" in str(caught.value)
    assert "HONE_STORE" in str(caught.value)
    assert not list((tmp_path / "store/artifacts").iterdir()), "nothing half-written stays"


def test_an_unknown_kind_of_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="HONE_STORE=nosuch://x"):
        Store("nosuch://x", tmp_path)
