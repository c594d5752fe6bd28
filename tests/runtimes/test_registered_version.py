"""The registry is asked for the digest of a version only where there is one, and may be away."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect_hone.runtimes.manifest import DOWNLOADED
from prefect_hone.runtimes.registered_version import DIGEST_TAG, registered_digest


class Mlflow:
    """Stands for MLflow, which has downloaded a model.

    Args:
        tags: Of the version; None: the registry does not answer.
        meta: What MLflow wrote into the folder.
        named: Whether a registry is configured.
    """

    def __init__(
        self, tags: dict[str, str] | None, meta: dict[str, object], named: bool = True
    ) -> None:
        self.tags, self.named, self.asked = tags, named, []
        self.utils = SimpleNamespace(yaml_utils=SimpleNamespace(read_yaml=lambda *_: meta))

    def is_tracking_uri_set(self) -> bool:
        return self.named

    def MlflowClient(self) -> Mlflow:
        return self

    def get_model_version(self, name: str, version: str) -> SimpleNamespace:
        self.asked.append((name, version))
        if self.tags is None:
            raise ConnectionError("refused")
        return SimpleNamespace(tags=self.tags)


META: dict[str, object] = {"model_name": "wine", "model_version": 3}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    (tmp_path / DOWNLOADED).write_text("")
    return tmp_path


def loaded(monkeypatch: pytest.MonkeyPatch, mlflow: Mlflow | None) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)


def test_the_versions_tag(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = Mlflow({DIGEST_TAG: "d"}, META)
    loaded(monkeypatch, mlflow)
    assert registered_digest(folder) == "d"
    assert mlflow.asked == [("wine", "3")]


@pytest.mark.parametrize(
    "mlflow",
    [None, Mlflow({DIGEST_TAG: "d"}, META, named=False), Mlflow({}, META),
     Mlflow({DIGEST_TAG: "d"}, {"model_name": None, "model_version": None})],
    ids=["without MLflow", "no registry is named", "not registered by Hone", "a logged model"],
)  # fmt: skip
def test_there_is_none(
    folder: Path, mlflow: Mlflow | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(monkeypatch, mlflow)
    assert registered_digest(folder) is None


def test_a_folder_that_was_not_downloaded_asks_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = Mlflow({DIGEST_TAG: "d"}, META)
    loaded(monkeypatch, mlflow)
    (folder / DOWNLOADED).unlink()
    assert registered_digest(folder) is None
    assert not mlflow.asked


def test_a_registry_that_is_away_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded(monkeypatch, Mlflow(None, META))
    with caplog.at_level(logging.WARNING):
        assert registered_digest(folder) is None
    assert "only compared with the manifest" in caplog.text
