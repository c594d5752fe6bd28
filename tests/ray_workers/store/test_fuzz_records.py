"""Any bytes in a store are a record of its owner's or none; nothing they say leads elsewhere."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from fuzzing import PLAIN, changed_bytes, changed_values, changes_of, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from prefect_hone.ray_workers.dispatch import Done
from prefect_hone.ray_workers.store.artifacts import Store, verify_kept
from prefect_hone.ray_workers.store.seal import OwnerKey, sealed, unsealed
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.recipe.errors import StoreError
from prefect_hone.runtimes.digest import tree_digest
from pydantic import ValidationError

KEY = b"k" * 32
NAME = "steps/train/1.json"
FILES = {"weights.safetensors": "1" * 64, "more/x.json": "2" * 64}
RECORD: dict[str, Any] = {
    "outputs": {"weights": {"kind": "weights", "sha256": tree_digest(FILES), "bytes": 9,
                            "uri": "store/artifacts/x", "files": FILES}},
    "metrics": {"train/loss": 0.5}, "params": {}, "facts": {"rows": 3}, "notes": ["a"],
    "seconds": 1.5, "peak_memory": 3, "run_id": "",
}  # fmt: skip
SEALED = sealed(KEY, NAME, RECORD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@fuzzed
@given(changed_bytes(SEALED) | st.binary(max_size=200))
def test_any_bytes_as_a_record(folder: Path, content: bytes) -> None:
    store = Store(str(folder), folder / "cache", OwnerKey(folder / "home"))
    path = folder / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert store.read_record(NAME) is None, "it is signed with another key"
    said = unsealed(KEY, NAME, content)
    assert said is None or json.dumps(said) == json.dumps({name: said[name] for name in said}), (
        "plain data"
    )
    if said is not None:
        assert said == RECORD, "the signature holds for what was signed alone"


@fuzzed
@given(changes_of(json.loads(SEALED)), st.booleans())
def test_any_change_of_a_record(changes: Any, keep_signature: bool) -> None:
    said = changed_values(json.loads(SEALED), changes)
    if keep_signature:
        said["signature"] = json.loads(SEALED)["signature"]
    found = unsealed(KEY, NAME, json.dumps(said).encode())
    assert found is None or found == RECORD
    assert unsealed(KEY, NAME + "x", SEALED) is None


@fuzzed
@given(changes_of(RECORD))
def test_any_signed_record_stays_inside(folder: Path, changes: Any) -> None:
    """Of an older version, or of somebody who has the key and makes mistakes."""
    store = Store(str(folder), folder / "cache", OwnerKey(folder / "home"))
    try:
        done = Done.model_validate(changed_values(RECORD, changes))
    except ValidationError:
        return
    for artifact in done.outputs.values():
        for name in artifact.files:
            assert ".." not in PurePosixPath(name).parts
            assert not name.startswith("/")
        with pytest.raises(StoreError, match="missing or corrupted"):
            store.fetch(artifact)


@fuzzed
@given(
    st.dictionaries(
        st.lists(
            st.sampled_from(["..", ".", "/", "a", "b.json", "\\", "\0", "//", " ", "\n", "~"]),
            max_size=5,
        ).map("".join),
        st.text("0123456789abcdefgA", max_size=66) | st.just("1" * 64),
        max_size=3,
    )
)
def test_any_list_of_files(files: dict[str, str]) -> None:
    values = {**RECORD["outputs"]["weights"], "files": files, "sha256": tree_digest(files)}
    try:
        done = Done.model_validate({**RECORD, "outputs": {"x": values}})
    except ValidationError:
        return
    root = PurePosixPath("/store/artifacts/x")
    for name in done.outputs["x"].files:
        assert str(root / name) == f"{root}/{name}"
        assert not {"..", "."} & set(PurePosixPath(name).parts)


@fuzzed
@given(changed_bytes(sealed(KEY, "step-000000003-a", {"step": 3, "epoch": 1, "quality": 0.5,
                                                       "files": FILES, "rest": {}}))
       | PLAIN.map(lambda value: sealed(KEY, "step-000000003-a", {
           "step": value, "epoch": value, "quality": value, "files": value, "rest": value})))  # fmt: skip
def test_any_record_of_a_checkpoint(folder: Path, content: bytes) -> None:
    place = folder / "training" / "step-000000003-a"
    place.mkdir(parents=True, exist_ok=True)
    (place / "committed.json").write_bytes(content)
    found = Checkpoints(str(place.parent), True, key=KEY.decode())
    found.best()
    assert found.latest() is None, "its files are not there"
    assert found.history(9) == []


@fuzzed
@given(PLAIN, st.sampled_from(["000000003", "x", "²²²²²²²²²", "9" * 30, "-00000003"]))
def test_any_history_of_a_training(folder: Path, metrics: Any, name: str) -> None:
    place = folder / "history" / "history" / f"{name}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(sealed(KEY, place.name, {"metrics": metrics}))
    Checkpoints(str(folder / "history"), True, key=KEY.decode()).history(3)
    place.unlink(missing_ok=True)


@fuzzed
@given(st.binary(max_size=80))
def test_any_bytes_as_a_key(folder: Path, content: bytes) -> None:
    home = folder / "keys"
    home.mkdir(exist_ok=True)
    (home / "store.key").write_bytes(content)
    try:
        assert OwnerKey(home).get() == content
    except StoreError:
        assert len(content) < 32


@fuzzed
@given(
    st.lists(
        st.sampled_from(["/", "artifacts", "..", "1" * 64, "s3://", "x", "\0", "a" * 63]),
        max_size=6,
    ).map("".join)
)
def test_any_path_of_a_kept_file(folder: Path, path: str) -> None:
    kept = f"/artifacts/{'1' * 64}" in path
    try:
        verify_kept(str(folder / "none") + path if path.startswith("/") else path)
    except StoreError:
        assert kept
