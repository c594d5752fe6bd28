"""A version proves itself before an alias moves to it, and when somebody asks."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import HoneError
from prefect_hone.runtimes import opening
from prefect_hone.tasks.tracking import names, self_proof
from prefect_hone.tasks.tracking.entries import ModelEntry
from prefect_hone.tasks.tracking.registered_bytes import verify
from prefect_hone.tasks.tracking.registry import Promotable, promote
from prefect_hone.tasks.tracking.rollback import rollback

from ...support.logged_models import aliases, logged, store, times


@pytest.fixture
def uri(databases: Path, tmp_path: Path) -> str:
    return store(databases, tmp_path / "mlflow")


def asked(uri: str, folder: Path, entry: ModelEntry) -> Promotable:
    sender, model_id = logged(uri, folder, entry)
    return Promotable(
        model="wine", alias="champion", model_id=model_id, sha256=entry.sha256,
        files=sender.files[entry.ref], recipe_digest="d", who="ann",
    )  # fmt: skip


def test_what_can_not_repeat_its_measurement_is_not_promoted(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an int8 model on a processor that saturates: the bytes are right, the outputs are not."""
    good = asked(uri, tmp_path, times(tmp_path, 2, measured=2))
    bad = asked(uri, tmp_path, times(tmp_path, 3, measured=3.7))
    promote(uri, good)
    with pytest.raises(HoneError, match=r"not those that were measured.*nothing was promoted"):
        promote(uri, bad)
    assert aliases(uri) == {"champion": "1"}
    monkeypatch.setenv("HONE_UNPROVEN", "warn")
    promote(uri, bad)
    assert aliases(uri)["champion"] == "2"
    verdict = verify(uri, "wine", "@champion")
    assert verdict.holds
    assert verdict.passes
    monkeypatch.delenv("HONE_UNPROVEN")
    verdict = verify(uri, "wine", "@champion")
    assert verdict.holds
    assert not verdict.passes
    assert "not those that were measured" in verdict.sentence
    rollback(uri, "wine", None, "it is wrong here", "ann")
    verdict = verify(uri, "wine", "@champion")
    assert verdict.passes
    assert "gives the outputs here that were measured" in verdict.sentence


def test_it_is_skipped_where_it_can_not_be_run(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(uri, asked(uri, tmp_path, times(tmp_path)))
    assert "carries no proof" in verify(uri, "wine", "1").sentence
    promote(uri, asked(uri, tmp_path, times(tmp_path / "other", 3, measured=3)))
    monkeypatch.setattr(self_proof, "is_importable", lambda _: False)
    verdict = verify(uri, "wine", "2")
    assert verdict.passes
    assert "onnxruntime is not installed here" in verdict.sentence


def test_changed_bytes_are_never_opened(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(uri, asked(uri, tmp_path, times(tmp_path, measured=2)))
    version = mlflow.MlflowClient(uri).get_model_version("wine", "1")
    assert names.DIGEST in version.tags
    monkeypatch.setattr(self_proof, "runtime", lambda _: pytest.fail("it was opened"))
    place = mlflow.MlflowClient(uri).get_logged_model(version.source.split("/")[-1])
    (Path(place.artifact_location) / "requirements.txt").write_text("evil")
    verdict = verify(uri, "wine", "1")
    assert not verdict.passes
    assert verdict.proof is None
    assert opening.is_importable(opening.runtime("onnxruntime"))
