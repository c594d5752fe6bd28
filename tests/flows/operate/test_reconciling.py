"""Reconcile enters in a model's ledger what somebody changed past Hone, and tells of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from prefect_hone.flows.engine import events
from prefect_hone.flows.operate.reconciling import _repair_ledgers
from prefect_hone.tasks.tracking.registry_view import RegistryView
from prefect_hone.tasks.tracking.rollback import repair


def test_an_alias_that_was_moved_by_hand_is_entered_and_told(
    tmp_path: Path, databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(databases / "mlflow.db", tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    for model in ("wine", "without-ledger", "it's"):
        client.create_registered_model(model)
        for _ in range(2):
            client.create_model_version(model, source="s3://nowhere/x")
    client.set_registered_model_alias("wine", "champion", "1")
    repair(uri, "wine")
    told: list[Any] = []
    monkeypatch.setattr(events, "_send", lambda *said: told.append(said))
    registry = RegistryView(uri)
    assert _repair_ledgers(registry, uri) == ([], [])
    client.set_registered_model_alias("wine", "champion", "2")
    ((model, entry),), problems = _repair_ledgers(registry, uri)
    assert (model, entry.record.before, entry.record.after, problems) == ("wine", "1", "2", [])
    ((event, _, payload),) = told
    assert (event, payload["how"]) == ("hone.champion.changed", "observed")
    assert _repair_ledgers(registry, uri) == ([], [])
    assert registry.models()["wine"] == {"champion": "2"}
    assert sorted(registry.models()) == ["it's", "wine", "without-ledger"], "a ledger is no model"
    assert [v.version for v in registry.versions("it's")] != []
    assert registry.version("wine", "9") is None
    assert registry.alias("wine", "candidate") is None
    assert registry.alias("nothing", "candidate") is None
