"""MLflow's global servers are lent and given back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import mlflow
import pytest
from prefect_hone.tasks.tracking.global_uris import global_uris

NAMES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


@pytest.mark.parametrize("registry", ["", "other"])
def test_afterwards_they_are_what_they_were(tmp_path: Path, registry: str) -> None:
    mine, theirs, other = (f"sqlite:///{tmp_path}/{n}.db" for n in ("mine", "theirs", "other"))
    with global_uris(mine):
        if registry:
            mlflow.set_registry_uri(other)
        else:
            mlflow.set_registry_uri("")
            os.environ.pop("MLFLOW_REGISTRY_URI")
        noted = {name: os.environ.get(name) for name in NAMES}
        with contextlib.suppress(KeyError), global_uris(theirs):
            assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == theirs
            raise KeyError
        assert mlflow.get_tracking_uri() == mine
        assert mlflow.get_registry_uri() == (other if registry else mine)
        assert {name: os.environ.get(name) or None for name in NAMES} == noted


def test_what_was_never_set_is_not_set_after_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    for name in ("one", "two"):
        with global_uris(f"sqlite:///{tmp_path}/{name}.db"):
            pass
        assert not os.environ["MLFLOW_REGISTRY_URI"]
