"""A version copied to another registry: the same bytes with the same evidence, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import HoneError, InputError
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.copy_version import copy_version
from prefect_hone.tasks.tracking.promote_version import promote_version
from prefect_hone.tasks.tracking.registered_bytes import verify
from prefect_hone.tasks.tracking.registry import Promotable, register

from ...support.logged_models import aliases, place_of, plain, store

GATE = {"metric": "quality.drop", "value": 0.0, "passed": True}


@pytest.fixture
def servers(databases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.chdir(tmp_path)  # where an SQLite store keeps the artifacts of a new experiment
    staging, production = (store(databases, tmp_path / n) for n in ("staging", "production"))
    mlflow.set_tracking_uri(staging)
    return staging, production


def registered(staging: str, folder: Path) -> Promotable:
    client = mlflow.MlflowClient(staging)
    place = (folder / "runs").as_uri()
    run = client.create_run(client.create_experiment("wine", place)).info.run_id
    client.log_text(run, "the whole outcome", "outcome.json")
    tags = {names.VERDICT: json.dumps([GATE]), names.PARENT_RUN: run, names.RECIPE: "wine"}
    asked = plain(staging, folder, "a").model_copy(update={"tags": tags, "description": "as told"})
    register(staging, asked, {names.APPROVAL: "requested"})
    return asked


def test_it_arrives_with_its_evidence_and_can_be_promoted(
    servers: tuple[str, str], tmp_path: Path
) -> None:
    staging, production = servers
    asked = registered(staging, tmp_path / "staging")
    copied = copy_version(staging, production, "wine", "1", name="wine-live")
    assert (copied.model, copied.version, copied.current) == ("wine-live", "1", None)
    assert verify(production, "wine-live", "1").holds

    client = mlflow.MlflowClient(production)
    version = client.get_model_version("wine-live", "1")
    assert version.tags[names.DIGEST] == asked.digest
    assert version.tags[names.COPIED_FROM].endswith("models:/wine/1")
    assert names.APPROVAL not in version.tags, "who approves there is another matter"
    assert version.description == "as told"
    run = version.tags[names.PARENT_RUN]
    outcome = f"{client.get_run(run).info.artifact_uri}/outcome.json"
    assert mlflow.artifacts.load_text(outcome) == "the whole outcome"
    promote_version(production, "wine-live", "1", who="ada", reason="staging was fine")
    assert aliases(production, "wine-live") == {"champion": "1"}
    assert aliases(staging) == {}
    assert not copy_version(staging, production, "wine", "1", name="wine-live").new


def test_nothing_is_copied_that_was_not_measured(servers: tuple[str, str], tmp_path: Path) -> None:
    staging, production = servers
    asked = registered(staging, tmp_path / "staging")
    mlflow.MlflowClient(staging).create_model_version("wine", source=str(tmp_path))
    with pytest.raises(InputError, match="lacks the tag hone\\.digest"):
        copy_version(staging, production, "wine", "2")
    with pytest.raises(InputError, match="not there"):
        copy_version(staging, production, "wine", "7")
    with pytest.raises(InputError, match="in this registry already"):
        copy_version(staging, staging, "wine", "1")
    victim = next(p for p in place_of(staging, asked.model_id).rglob("*.onnx"))
    victim.chmod(0o644)
    victim.write_text("b")
    with pytest.raises(HoneError, match="does not hold what was measured"):
        copy_version(staging, production, "wine", "1")
    assert not mlflow.MlflowClient(production).search_registered_models()
