"""A real MLflow server for the machine of `ledger_machine.py`, and processes that are really killed."""

from __future__ import annotations

import time
from collections.abc import Callable

import mlflow
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.ledger import all_versions
from prefect_hone.tasks.tracking.lookup import number_of, version_of
from prefect_hone.tasks.tracking.registry import Promotable

from .killed_processes import start, wait
from .ledger_machine import End, Move
from .logged_models import log_files

_SETTLING = 0.3  # s for a request that a server got from a process that is gone


class RealWorld:
    """A registered model of its own on an MLflow server, which only this process's children change.

    Args:
        uri: The server.
        model: The registered model, which does not exist yet.
    """

    def __init__(self, uri: str, model: str) -> None:
        self.uri, self.model = uri, model
        self.client = mlflow.MlflowClient(uri, registry_uri=uri)
        self.moved: list[Move] = []
        self._logged: dict[int, Promotable] = {}

    def asked(self, content: int) -> Promotable:
        if content not in self._logged:
            self._logged[content] = log_files(self.client, self.model, f"content {content}")
        return self._logged[content]

    def do(
        self, work: Callable[[], object], changes: int | None, kill_after: float | None = None
    ) -> End:
        before = self.alias("champion")
        end = wait(start(work, changes), kill_after)
        if end == "killed":
            self._settle()
        self._note(before, by_hand=False)
        return end

    def _settle(self) -> None:
        """Wait until the server has done what a killed process had asked for."""
        held = self.alias("champion")
        time.sleep(_SETTLING)
        while (now := self.alias("champion")) != held:
            held = now
            time.sleep(_SETTLING)

    def move_by_hand(self, version: str | None) -> None:
        before = self.alias("champion")
        if version is not None:
            self.client.set_registered_model_alias(self.model, "champion", version)
        elif before is not None:
            self.client.delete_registered_model_alias(self.model, "champion")
        self._note(before, by_hand=True)

    def _note(self, before: str | None, by_hand: bool) -> None:
        after = self.alias("champion")
        if after != before:
            self.moved.append((before, after, by_hand))

    def alias(self, name: str) -> str | None:
        return number_of(version_of(self.client, self.model, name))

    def versions(self) -> dict[str, str]:
        found = all_versions(self.client, self.model)
        return {str(version.version): version.tags[names.DIGEST] for version in found}

    def close(self) -> None:
        """Nothing: the server is somebody else's."""
