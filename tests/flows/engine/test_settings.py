"""Where things are, as the environment says it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone.flows.engine.settings import Settings
from prefect_hone.recipe.errors import InputError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HONE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("store", "{here}/store"),
        ("team:store", "{here}/team:store"),
        ("~/store", "{here}/me/store"),
        ("file:///data/store", "/data/store"),
        ("file:/data/store", "/data/store"),
        ("file://localhost/data/store", "/data/store"),
        ("", "{here}/home/store"),
    ],
)
def test_a_store_in_a_folder_is_the_same_wherever_a_worker_starts(
    here: Path, monkeypatch: pytest.MonkeyPatch, given: str, folder: str
) -> None:
    monkeypatch.setenv("HONE_STORE", given)
    assert Settings.from_environment().store == folder.format(here=here)


@pytest.mark.parametrize("given", ["s3://bucket/store", "simplecache::s3://bucket/store"])
def test_another_store_is_taken_as_it_is(
    here: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("HONE_STORE", given)
    assert Settings.from_environment().store == given


@pytest.mark.parametrize("given", ["file://data/store", "FILE://me:word@host/store"])
def test_a_file_url_with_a_host_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("HONE_STORE", given)
    with pytest.raises(InputError, match="three slashes") as caught:
        Settings.from_environment()
    assert "word" not in str(caught.value)
