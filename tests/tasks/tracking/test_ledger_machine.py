"""Random promotions, rollbacks, kills, changes past Hone and repairs: the ledger equals a model of it.

MLflow's registry is a stand-in here that keeps its promises (numbers of versions without duplicates,
a version and its tags at once); `test_ledger.py` asks the same of MLflow's own store, and
`tests/benchmarks/registry_truth.py` of a server, with processes that are really killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest import mock

import mlflow
from hypothesis import settings
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST
from prefect_hone.recipe.errors import InputError
from prefect_hone.runtimes.manifest import manifest_digest
from prefect_hone.tasks.tracking import alias, names, registry
from prefect_hone.tasks.tracking.registered_bytes import Verdict
from prefect_hone.tasks.tracking.registry import Promotable

from ...support.ledger_machine import End, LedgerMachine, World


class Killed(BaseException):
    """Ends what Hone does, as kill -9 does."""


@dataclass
class Version:
    name: str
    version: int
    source: str
    tags: dict[str, str]
    creation_timestamp: int = 0


@dataclass
class Registry:
    """Stands for MLflow's registry.

    Attributes:
        left: Changes until the process is killed; None: it lives.
        moved: Every change of the champion, in order, and whether it was made by hand: the model
            that the ledger must equal.
        by_hand: Whether the next change is.
    """

    models: dict[str, list[Version]] = field(default_factory=dict)
    aliases: dict[tuple[str, str], int] = field(default_factory=dict)
    left: int | None = None
    moved: list[tuple[str | None, str | None, bool]] = field(default_factory=list)
    by_hand: bool = False

    def _change(self) -> None:
        if self.left is not None:
            if self.left == 0:
                raise Killed
            self.left -= 1

    def create_registered_model(self, name: str, **_: object) -> None:
        if name in self.models:
            raise MlflowException("it is there", RESOURCE_ALREADY_EXISTS)
        self._change()
        self.models[name] = []

    def get_registered_model(self, name: str) -> SimpleNamespace:
        if name not in self.models:
            raise MlflowException("no", RESOURCE_DOES_NOT_EXIST)
        return SimpleNamespace(description="")

    def create_model_version(self, name: str, source: str, tags=None, **_: object) -> Version:
        if name not in self.models:
            raise MlflowException("no", RESOURCE_DOES_NOT_EXIST)
        self._change()
        made = Version(name, len(self.models[name]) + 1, source, dict(tags or {}))
        self.models[name].append(made)
        return made

    def get_model_version(self, name: str, version: str) -> Version:
        if not 0 < int(version) <= len(self.models.get(name, [])):
            raise MlflowException("no", RESOURCE_DOES_NOT_EXIST)
        return self.models[name][int(version) - 1]

    def get_model_version_by_alias(self, name: str, alias: str) -> Version:
        if (name, alias) not in self.aliases:
            raise MlflowException("no", RESOURCE_DOES_NOT_EXIST)
        return self.models[name][self.aliases[name, alias] - 1]

    def search_model_versions(self, query: str, **_: object) -> list[Version]:
        return list(self.models.get(query.split("'")[1], []))

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self._change()
        self.get_model_version(name, version).tags[key] = value

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._change()
        self._move(name, alias, int(version))

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self._change()
        self._move(name, alias, None)

    def _move(self, name: str, alias: str, version: int | None) -> None:
        before = self.aliases.pop((name, alias), None)
        if version is not None:
            self.aliases[name, alias] = version
        if alias == "champion" and before != version:
            told = [None if v is None else str(v) for v in (before, version)]
            self.moved.append((told[0], told[1], self.by_hand))

    def get_logged_model(self, model_id: str) -> SimpleNamespace:
        return SimpleNamespace(artifact_location=model_id)

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        return self.get_model_version(name, str(version)).source.removeprefix("models:/")


def _files(content: str) -> dict[str, str]:
    return {"MLmodel": content}


class MadeWorld:
    """A registry in this process; what is killed there ends by an exception."""

    uri, model = "uri", "wine"

    def __init__(self) -> None:
        self.server = Registry()
        self.moved = self.server.moved
        self.patches = [
            mock.patch.object(mlflow, "MlflowClient", return_value=self.server),
            mock.patch.object(registry, "held_at", lambda _, place: _files(place)),
            mock.patch.object(registry, "held_files", lambda _, model_id: _files(model_id)),
            mock.patch.object(
                registry, "held_and_proven", lambda _, model_id, __: (_files(model_id), None)
            ),
            mock.patch.object(alias, "verify_version", self._verdict),
        ]
        for patch in self.patches:
            patch.start()

    def _verdict(
        self, _: str, client: Registry, version: Version, *, prove: bool = False
    ) -> Verdict:
        place = client.get_model_version_download_uri(version.name, str(version.version))
        return Verdict(
            model=version.name, version=str(version.version),
            expected=version.tags.get(names.DIGEST), found=manifest_digest(_files(place)),
        )  # fmt: skip

    def asked(self, content: int) -> Promotable:
        name = f"m-{content}"
        return Promotable(
            model="wine", alias="champion", model_id=name, sha256=name, files=_files(name),
            recipe_digest="d", who="ann",
        )  # fmt: skip

    def do(self, work: Callable[[], object], changes: int | None) -> End:
        self.server.left = changes
        try:
            work()
        except Killed:
            return "killed"
        except InputError:
            return "refused"
        finally:
            self.server.left = None
        return "done"

    def move_by_hand(self, version: str | None) -> None:
        self.server.by_hand = True
        self.server._move("wine", "champion", None if version is None else int(version))
        self.server.by_hand = False

    def alias(self, name: str) -> str | None:
        held = self.server.aliases.get(("wine", name))
        return None if held is None else str(held)

    def versions(self) -> dict[str, str]:
        held = self.server.models.get("wine", [])
        return {str(version.version): version.tags[names.DIGEST] for version in held}

    def close(self) -> None:
        for patch in self.patches:
            patch.stop()


class Promotions(LedgerMachine):
    def make_world(self) -> World:
        return MadeWorld()


Promotions.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, database=None
)
TestPromotions = Promotions.TestCase
