"""Today's champion with its files: fetched and verified, or why not; on a real registry of files."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import HoneError, InputError
from prefect_hone.runtimes.digest import digests_in, tree_digest
from prefect_hone.tasks.benchmark.side_by_side import Compiled
from prefect_hone.tasks.todays_champion import TodaysChampion
from prefect_hone.tasks.tracking.champion_files import todays_champion, verified_version
from prefect_hone.tasks.tracking.registry import Promotable, promote

from ...support.logged_models import logged, place_of, plain, store, times


@pytest.fixture
def uri(databases: Path, tmp_path: Path) -> str:
    made = store(databases, tmp_path)
    mlflow.set_tracking_uri(made)
    return made


def promoted(uri: str, folder: Path, factor: int) -> Promotable:
    entry = times(folder, factor)
    sender, model_id = logged(uri, folder, entry)
    asked = Promotable(
        model="wine", alias="champion", model_id=model_id, sha256=entry.sha256,
        files=sender.files[entry.ref], recipe_digest="d", tags=dict(entry.tags),
    )  # fmt: skip
    promote(uri, asked)
    return asked


def found(uri: str, wait: float = 0) -> tuple[TodaysChampion, str | None]:
    """The champion, and the digest of the files of its artifact."""
    with todays_champion(uri, "wine", "champion", wait) as (today, folder):
        return today, None if folder is None else tree_digest(digests_in(folder))


def test_there_is_none_before_the_first_promotion(uri: str) -> None:
    today, files = found(uri)
    assert (today.is_absent, today.unmeasured, files) == (True, "no champion yet", None)


def test_looking_for_it_makes_no_store(tmp_path: Path) -> None:
    today, _ = found(f"sqlite:///{tmp_path}/none/mlflow.db")
    assert today.is_absent
    assert list(tmp_path.iterdir()) == []


def test_its_artifact_is_the_measured_one(uri: str, tmp_path: Path) -> None:
    asked = promoted(uri, tmp_path, 2)
    today, files = found(uri)
    assert (today.version, today.candidate) == ("1", "times2@onnxruntime-cpu")
    assert (today.sha256, today.digest, today.unmeasured) == (files, asked.digest, None)
    assert files == asked.sha256
    promoted(uri, tmp_path, 3)
    assert found(uri)[0].version == "2"


def test_changed_files_are_not_compared_with(uri: str, tmp_path: Path) -> None:
    asked = promoted(uri, tmp_path, 2)
    victim = next(place_of(uri, asked.model_id).rglob("model.onnx"))
    victim.chmod(0o644)
    victim.write_bytes(b"something else")
    today, files = found(uri)
    assert files is None
    assert "does not hold what was measured: data/data/artifact/model.onnx differ" in str(
        today.unmeasured
    )


@pytest.mark.parametrize("version", ["@champion", "1"])
def test_a_named_version_is_verified_before_its_files_are_given(
    uri: str, tmp_path: Path, version: str
) -> None:
    asked = promoted(uri, tmp_path, 2)
    with verified_version(uri, "wine", version) as data:
        model = Compiled.read("wine", data)
    assert model.runtime == "onnxruntime"
    assert tree_digest(digests_in(model.folder)) == asked.sha256
    victim = next(place_of(uri, asked.model_id).rglob("model.onnx"))
    victim.chmod(0o644)
    victim.write_bytes(b"something else")
    with (
        pytest.raises(HoneError, match="does not hold what was measured"),
        verified_version(uri, "wine", version),
    ):
        pass


def test_a_version_that_is_not_there_is_told(uri: str, tmp_path: Path) -> None:
    promoted(uri, tmp_path, 2)
    with (
        pytest.raises(InputError, match="the registry has no wine version 9"),
        verified_version(uri, "wine", "9"),
    ):
        pass


def test_files_that_are_gone_and_strangers_models(uri: str, tmp_path: Path) -> None:
    asked = promoted(uri, tmp_path, 2)
    place = place_of(uri, asked.model_id)
    place.rename(place.with_name("elsewhere"))
    today, files = found(uri)
    assert files is None
    assert "version 1, the champion, can't be compared with: " in str(today.unmeasured)
    client = mlflow.MlflowClient(uri)
    stranger = client.create_model_version("wine", source=str(tmp_path))
    client.set_registered_model_alias("wine", "champion", stranger.version)
    assert "has no digest of what was measured" in str(found(uri)[0].unmeasured)


def test_only_files_is_no_model_of_hones(uri: str, tmp_path: Path) -> None:
    promote(uri, plain(uri, tmp_path, "a"))
    today, files = found(uri)
    assert files is None
    assert "can't be compared with" in str(today.unmeasured)


def test_a_registry_that_does_not_answer_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    today, files = found("http://127.0.0.1:9")
    assert (files, today.version, today.is_absent) == (None, None, False)
    assert "the champion can't be compared with: MLflow did not answer" in str(today.unmeasured)
