"""Attacks on the records of a store, by somebody who can write files to it but has no key."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from prefect_hone.ray_workers.store import seal
from prefect_hone.ray_workers.store.artifacts import Store
from prefect_hone.ray_workers.store.seal import OwnerKey, sealed, unsealed
from prefect_hone.recipe.errors import InputError, StoreError

KEY = b"k" * 32
NAME = "steps/benchmark/1.json"


@pytest.fixture(autouse=True)
def no_key_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "_taken", None)
    for name in (seal.KEY_VARIABLE, seal.KEY_FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache", OwnerKey(tmp_path / "home"))


def written(store: Store) -> Path:
    store.write_record(NAME, {"p50_ms": 9.5})
    return Path(store.root) / NAME


def refused(store: Store, name: str = NAME) -> bool:
    return store.read_record(name) is None and name in store.refused


def test_what_the_owner_wrote_is_read(store: Store) -> None:
    written(store)
    assert store.read_record(NAME) == {"p50_ms": 9.5}
    assert not store.refused


def test_a_forged_measurement_is_refused(store: Store) -> None:
    file = written(store)
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "p50_ms": 0.1}))
    assert refused(store)


def test_a_record_without_signature_is_refused(store: Store) -> None:
    written(store).write_text(json.dumps({"p50_ms": 0.1}))
    assert refused(store)


@pytest.mark.parametrize("signature", ["", "0" * 64, 7, None, [], "é"])
def test_a_made_up_signature_is_refused(store: Store, signature: object) -> None:
    written(store).write_text(json.dumps({"p50_ms": 0.1, "signature": signature}))
    assert refused(store)


def test_a_record_under_another_key_of_a_step_is_refused(store: Store) -> None:
    file = written(store)
    file.rename(file.with_name("2.json"))
    assert refused(store, "steps/benchmark/2.json")


def test_a_record_of_another_owner_is_refused(store: Store, tmp_path: Path) -> None:
    written(Store(store.url, tmp_path / "cache", OwnerKey(tmp_path / "other")))
    written(Store(f"{store.url}2", tmp_path / "cache", OwnerKey(tmp_path / "home")))
    assert refused(store)


def test_with_no_key_yet_nothing_is_trusted_and_none_is_made(store: Store, tmp_path: Path) -> None:
    file = Path(store.root) / NAME
    file.parent.mkdir(parents=True)
    file.write_bytes(sealed(b"", NAME, {"p50_ms": 0.1}))
    assert refused(store)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "7", '{"a": ' * 50_000, "", "\0", '{"signature": {}}']
)
def test_a_hostile_document_counts_as_none(text: str) -> None:
    assert unsealed(KEY, NAME, text.encode()) is None


def test_a_link_or_a_pipe_in_place_of_a_record_is_not_followed(
    store: Store, tmp_path: Path
) -> None:
    file = written(store)
    kept = file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(kept)
    assert store.read_record(NAME) is None
    file.unlink()
    os.mkfifo(file)
    assert store.read_record(NAME) is None


def test_the_key_is_private_and_stays(tmp_path: Path) -> None:
    key = OwnerKey(tmp_path / "home").get()
    file = tmp_path / "home" / "store.key"
    assert len(key) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]
    assert OwnerKey(tmp_path / "home").get() == key
    file.chmod(0o644)
    assert OwnerKey(tmp_path / "home").existing() == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "an open one is closed"


def test_a_key_that_somebody_planted_as_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "known").write_bytes(KEY)
    (tmp_path / "store.key").symlink_to(tmp_path / "known")
    with pytest.raises(StoreError, match=r"store\.key: the key that signs results can't be used"):
        OwnerKey(tmp_path).get()


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    OwnerKey(tmp_path).get()
    monkeypatch.setattr(seal.os, "geteuid", lambda: 4321)
    with pytest.raises(StoreError, match="it belongs to another user"):
        OwnerKey(tmp_path).get()


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_torn_key_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.key").write_bytes(content)
    with pytest.raises(StoreError, match="too short"):
        OwnerKey(tmp_path).get()


def test_a_key_from_the_environment_is_not_left_to_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONE_STORE_KEY", "t" * 40)
    assert OwnerKey(tmp_path).get() == b"t" * 40
    assert os.environ["HONE_STORE_KEY"] == ""
    assert OwnerKey(tmp_path).get() == b"t" * 40, "this process keeps it"
    assert not (tmp_path / "store.key").exists()


def test_a_team_shares_a_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "team.key").write_text("t" * 40 + "\n")
    monkeypatch.setenv("HONE_STORE_KEY_FILE", str(tmp_path / "team.key"))
    url = str(tmp_path / "store")
    written(Store(url, tmp_path / "cache", OwnerKey(tmp_path / "one")))
    other = Store(url, tmp_path / "cache", OwnerKey(tmp_path / "two"))
    assert other.read_record(NAME) == {"p50_ms": 9.5}


@pytest.mark.parametrize("content", [None, "", "short"])
def test_a_bad_key_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "team.key").write_text(content)
    monkeypatch.setenv("HONE_STORE_KEY_FILE", str(tmp_path / "team.key"))
    with pytest.raises(InputError, match="HONE_STORE_KEY_FILE="):
        OwnerKey(tmp_path).get()


def test_the_key_of_a_training_does_not_reveal_the_owners(tmp_path: Path) -> None:
    owner = OwnerKey(tmp_path)
    one, other = owner.derived("checkpoints 1"), owner.derived("checkpoints 2")
    assert one != other
    assert owner.get().hex() not in (one, other)


def test_workers_have_no_key(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    with pytest.raises(ValueError, match="the owner's key"):
        store.write_record(NAME, {})
