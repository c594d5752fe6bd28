"""What is removed from a store: only what no result, version or running work can refer to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from prefect_hone.flows.operate import garbage
from prefect_hone.flows.operate.garbage import find_garbage, remove
from prefect_hone.ray_workers.store.artifacts import Artifact, Store
from prefect_hone.ray_workers.store.seal import OwnerKey

DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache", OwnerKey(tmp_path))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Artifacts of versions in the registry."""
    held: list[str] = []
    monkeypatch.setattr(garbage, "registered_artifacts", lambda _: held)
    return held


def put(store: Store, tmp_path: Path, content: str, days: float) -> Artifact:
    """An artifact that was written so many days ago."""
    folder = tmp_path / f"made-{content}"
    folder.mkdir()
    (folder / "file").write_text(content)
    artifact = store.put(folder, "onnx")
    age(Path(store.root) / "artifacts" / artifact.sha256, days)
    return artifact


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    for item in [path, *path.rglob("*")]:
        os.utime(item, (then, then))


def record(store: Store, name: str, days: float, *artifacts: Artifact) -> str:
    path = f"steps/compile/{name}.json"
    store.write_record(path, {"outputs": [a.model_dump(mode="json") for a in artifacts]})
    age(Path(store.root) / path, days)
    return path


def paths(store: Store, days: float = 30) -> set[str]:
    return {item.path for item in find_garbage(store, "nowhere", days).leftovers}


def test_what_is_needed_stays_and_the_rest_goes(
    store: Store, tmp_path: Path, registered: list[str]
) -> None:
    used, old, champion, lost, young = (
        put(store, tmp_path, name, days)
        for name, days in (
            ("used", 90), ("old", 90), ("champion", 90), ("lost", 90), ("young", 0.1),
        )
    )  # fmt: skip
    registered.append(champion.sha256)
    kept = record(store, "kept", 3, used)
    stale = record(store, "stale", 60, old, champion)
    training = Path(store.root) / "training" / "line"
    training.mkdir(parents=True)
    (training / "step").write_text("weights")
    age(training, 40)

    assert paths(store) == {
        stale, f"artifacts/{old.sha256}", f"artifacts/{lost.sha256}", "training/line",
    }  # fmt: skip
    found = find_garbage(store, "nowhere", 30)
    assert found.kept == 3
    assert found.size > 0
    remove(store, found)
    assert paths(store) == set()
    for artifact in (used, champion, young):
        assert store.fetch(artifact).is_dir()
    assert store.read_record(kept) is not None
    assert store.read_record(stale) is None
    assert not training.exists()


def test_a_result_that_is_used_is_young_again(store: Store, tmp_path: Path) -> None:
    artifact = put(store, tmp_path, "used", 90)
    name = record(store, "old", 60, artifact)
    assert name in paths(store)
    store.mark_used(name)
    assert paths(store) == set()


def test_a_deployed_recipe_stays_however_old_it_is(store: Store, tmp_path: Path) -> None:
    """A nightly deployment names it, and reads it without writing anything."""
    folder, weights = put(store, tmp_path, "folder", 400), put(store, tmp_path, "weights", 400)
    name = f"recipes/{folder.sha256}.json"
    kept = {"start.safetensors": f"{weights.uri}/model.safetensors"}
    store.write_record(name, {"folder": folder.model_dump(mode="json"), "kept": kept})
    age(Path(store.root) / name, 400)
    assert paths(store) == set()


def test_an_empty_store_has_nothing(store: Store) -> None:
    found = find_garbage(store, "nowhere", 1)
    assert (found.leftovers, found.kept) == ([], 0)
