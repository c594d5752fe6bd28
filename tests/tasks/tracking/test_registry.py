"""Promotion: only what was measured, the alias last, and done twice without harm."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST
from prefect_hone.recipe.errors import HoneError, ServerUnreachable
from prefect_hone.runtimes.digest import digests_in, tree_digest
from prefect_hone.runtimes.manifest import model_files
from prefect_hone.runtimes.served_model import FILES, ModelDescription
from prefect_hone.tasks.tracking import registry
from prefect_hone.tasks.tracking.registry import Promotable, promote

HELD: dict[str, str] = {}  # what was logged, of the test that runs


@dataclass
class Version:
    name: str
    version: int
    source: str
    tags: dict[str, str]
    description: str = ""


@dataclass
class Registry:
    """Stands for MLflow's registry, and notes in which order it was changed.

    Attributes:
        failing: Errors that its next changes raise, in order; None lets one through.
    """

    models: dict[str, list[Version]] = field(default_factory=dict)
    aliases: dict[tuple[str, str], int] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    failing: list[Exception | None] = field(default_factory=list)
    descriptions: dict[str, str] = field(default_factory=dict)
    held: Path = Path()

    def get_logged_model(self, model_id: str) -> SimpleNamespace:
        return SimpleNamespace(artifact_location=str(self.held))

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        return str(self.held)

    def _change(self, what: str) -> None:
        if self.failing and (error := self.failing.pop(0)) is not None:
            raise error
        self.changes.append(what)

    def create_registered_model(self, name: str, tags=None, description=None) -> None:
        if name in self.models:
            raise MlflowException("it is there", RESOURCE_ALREADY_EXISTS)
        self._change("model")
        self.models[name] = []
        self.descriptions[name] = description or ""

    def get_registered_model(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(description=self.descriptions[name])

    def update_registered_model(self, name: str, description=None) -> None:
        self.descriptions[name] = description or ""

    def create_model_version(
        self, name: str, source: str, tags=None, model_id=None, description=None
    ) -> Version:
        self._change("version")
        made = Version(
            name, len(self.models[name]) + 1, source, dict(tags or {}), description or ""
        )
        self.models[name].append(made)
        return made

    def get_model_version_by_alias(self, name: str, alias: str) -> Version:
        if (name, alias) not in self.aliases:
            raise MlflowException("no such alias", RESOURCE_DOES_NOT_EXIST)
        return self.models[name][self.aliases[name, alias] - 1]

    def search_model_versions(self, query: str, max_results: int = 0) -> list[Version]:
        (name,) = [name for name in self.models if f"'{name}'" in query]
        return list(reversed(self.models[name]))

    def set_registered_model_alias(self, name: str, alias: str, version: int) -> None:
        self._change(f"{alias} -> {version}")
        self.aliases[name, alias] = int(version)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """What MLflow holds of a logged model."""
    folder = tmp_path / "held" / "data"
    (folder / FILES).mkdir(parents=True)
    (folder / FILES / "model.onnx").write_text("graph")
    ModelDescription(digest(folder), ("input",), {}).write(folder)
    return folder


def digest(folder: Path) -> str:
    return tree_digest(digests_in(folder / FILES))


@pytest.fixture
def server(held: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry(held=held.parent)
    HELD.clear()
    HELD.update(model_files(held.parent))
    monkeypatch.setattr(mlflow, "MlflowClient", lambda *_, **__: made)
    monkeypatch.setattr(registry.time, "sleep", lambda _: None)
    return made


def asked(sha256: str, digest_of_recipe: str = "d1", model_id: str = "m-1") -> Promotable:
    return Promotable(
        model="wine", alias="champion", model_id=model_id, sha256=sha256, files=dict(HELD),
        recipe_digest=digest_of_recipe, tags={"hone.candidate": "int8@onnxruntime-cpu"},
    )  # fmt: skip


def test_the_first_champion(server: Registry, held: Path) -> None:
    promotion = promote("uri", asked(digest(held)))
    assert (promotion.version, promotion.new, promotion.previous) == ("1", True, None)
    assert server.changes == ["model", "version", "champion -> 1"], "the alias moves last"
    version = server.models["wine"][0]
    assert version.source == "models:/m-1"
    assert version.tags["hone.sha256"] == digest(held)
    assert version.tags["hone.recipe_digest"] == "d1"
    assert version.tags["hone.candidate"] == "int8@onnxruntime-cpu"


def test_descriptions_are_written_and_a_persons_own_is_left_alone(
    server: Registry, held: Path
) -> None:
    told = {"description": "of the version", "model_description": "of the model"}
    promote("uri", asked(digest(held)).model_copy(update=told))
    assert server.models["wine"][0].description == "of the version"
    assert server.descriptions == {"wine": "of the model"}
    server.descriptions["wine"] = "by a person"
    promote("uri", asked(digest(held), "d2").model_copy(update=told))
    assert server.descriptions == {"wine": "by a person"}
    server.descriptions["wine"] = ""
    promote("uri", asked(digest(held), "d3").model_copy(update=told))
    assert server.descriptions == {"wine": "of the model"}


def test_other_bytes_than_the_measured_ones_are_refused(server: Registry, held: Path) -> None:
    measured = digest(held)
    promote("uri", asked(measured))
    (held / FILES / "model.onnx").write_text("GRAPH")
    with pytest.raises(HoneError, match=r"nothing was promoted") as caught:
        promote("uri", asked(measured, "d2", "m-2"))
    assert caught.value.where == "models:/m-2"
    assert server.aliases == {("wine", "champion"): 1}
    assert len(server.models["wine"]) == 1


def test_a_model_without_a_description_is_refused(server: Registry, held: Path) -> None:
    measured = digest(held)
    (held / "hone.json").unlink()
    with pytest.raises(HoneError, match="other bytes"):
        promote("uri", asked(measured))
    assert server.aliases == {}


def test_the_same_bytes_under_the_same_recipe_stay_as_they_are(
    server: Registry, held: Path
) -> None:
    promote("uri", asked(digest(held)))
    before = list(server.changes)
    again = promote("uri", asked(digest(held), model_id="m-2"))
    assert (again.version, again.new, again.previous) == ("1", False, None)
    assert server.changes == before


def test_the_version_before_keeps_an_alias(server: Registry, held: Path) -> None:
    promote("uri", asked(digest(held)))
    second = promote("uri", asked(digest(held), "d2", "m-2"))
    assert (second.version, second.previous) == ("2", "1")
    assert server.aliases == {("wine", "champion"): 2, ("wine", "previous"): 1}
    assert server.changes[-2:] == ["previous -> 1", "champion -> 2"]


def test_a_version_that_a_killed_run_left_without_an_alias_is_found_again(
    server: Registry, held: Path
) -> None:
    server.failing = [None, None, KeyboardInterrupt()]  # type: ignore[list-item]
    with pytest.raises(KeyboardInterrupt):
        promote("uri", asked(digest(held)))
    assert server.changes == ["model", "version"]
    promotion = promote("uri", asked(digest(held), model_id="m-2"))
    assert (promotion.version, promotion.new) == ("1", False)
    assert len(server.models["wine"]) == 1
    assert server.aliases == {("wine", "champion"): 1}


def test_a_server_that_is_away_for_a_moment_is_waited_for(server: Registry, held: Path) -> None:
    server.failing = [None, ConnectionError("refused"), None, ConnectionError("refused")]
    assert promote("uri", asked(digest(held))).version == "1"
    assert server.changes == ["model", "version", "champion -> 1"]


def test_one_that_stays_away_is_told(server: Registry, held: Path) -> None:
    server.failing = [ConnectionError("refused")] * 50
    with pytest.raises(ServerUnreachable, match="measured but not registered") as caught:
        promote("uri", asked(digest(held)), wait=-1)
    assert caught.value.where == "uri"


def test_what_mlflow_refuses_is_not_tried_again(server: Registry, held: Path) -> None:
    server.failing = [MlflowException("no such workspace", RESOURCE_DOES_NOT_EXIST)]
    with pytest.raises(MlflowException, match="no such workspace"):
        promote("uri", asked(digest(held)))
    assert server.changes == []
