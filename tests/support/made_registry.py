"""A registry and a Prefect server in memory, for what listens to the one and starts on the other."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
import uuid
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect_hone.flows.operate.listener import Listener
from prefect_hone.flows.operate.listener_state import ListenerState
from prefect_hone.flows.operate.rules import parse_rules
from prefect_hone.flows.operate.starting import Start
from prefect_hone.flows.operate.watching import Watcher
from prefect_hone.recipe.errors import ServerUnreachable
from prefect_hone.tasks.tracking.registry_view import VersionSeen

SECRET = "a secret of the tests, long enough"
RULES = """
rules:
  - on: alias candidate set on digits-*
    run: promote/hone
    parameters: {model: "{model}", version: "{version}", why: "{alias} was set"}
  - on: version created in raw-*
    run: optimize
    parameters: {source: "models:/{model}/{version}"}
  - on: tag hone.approval=approved set on digits-*
    run: approve/hone
    parameters: {model: "{model}", version: "{version}"}
"""


@dataclass
class MadeRegistry:
    """A registry whose clock ticks with each version."""

    held: dict[str, dict[str, VersionSeen]] = field(default_factory=dict)
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    away: bool = False
    ticks: int = 1_000_000

    def create(self, model: str) -> str:
        self.ticks += 1
        versions = self.held.setdefault(model, {})
        version = str(len(versions) + 1)
        versions[version] = VersionSeen(version=version, created=self.ticks, tags={})
        return version

    def tag(self, model: str, version: str, key: str, value: str | None) -> None:
        seen = self.held[model][version]
        tags = {**seen.tags, key: value} if value is not None else {}
        self.held[model][version] = seen.model_copy(update={"tags": tags})

    def delete(self, model: str) -> None:
        self.held.pop(model)
        self.aliases = {key: v for key, v in self.aliases.items() if key[0] != model}

    def models(self) -> dict[str, dict[str, str]]:
        self._answer()
        return {
            model: {a: v for (m, a), v in self.aliases.items() if m == model} for model in self.held
        }

    def versions(self, model: str) -> list[VersionSeen]:
        return [seen for v in self.held[model] if (seen := self.version(model, v)) is not None]

    def version(self, model: str, version: str) -> VersionSeen | None:
        self._answer()
        return self.held.get(model, {}).get(version)

    def alias(self, model: str, alias: str) -> VersionSeen | None:
        self._answer()
        version = self.aliases.get((model, alias))
        return None if version is None else self.version(model, version)

    def _answer(self) -> None:
        if self.away:
            raise ServerUnreachable("MLflow does not answer")


@dataclass
class MadePrefect:
    """Flow runs by key, as Prefect's database has them: one for a key."""

    runs: dict[tuple[str, str], Start] = field(default_factory=dict)
    asked: int = 0
    away: bool = False
    error: Exception | None = None
    after: Any = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def keys(self, deployment: str, subject: str) -> Sequence[str]:
        self._answer()
        return [s.key for (d, _), s in self.runs.items() if (d, s.subject) == (deployment, subject)]

    def start(self, start: Start) -> str:
        self._answer()
        with self._lock:
            self.asked += 1
            self.runs.setdefault((start.deployment, start.key), start)
        if self.after is not None:
            self.after()
        return start.key

    def started(self, deployment: str = "") -> list[dict[str, Any]]:
        return [s.parameters for s in self.runs.values() if deployment in s.deployment]

    def _answer(self) -> None:
        if self.error is not None:
            raise self.error
        if self.away:
            raise ServerUnreachable("the Prefect server does not answer")


@dataclass
class Place:
    """A listener, its registry and its Prefect server."""

    folder: Path
    registry: MadeRegistry = field(default_factory=MadeRegistry)
    prefect: MadePrefect = field(default_factory=MadePrefect)
    rules: str = RULES

    def __post_init__(self) -> None:
        self.state = ListenerState(self.folder)
        self.watcher = Watcher(
            parse_rules(self.rules, "rules.yaml"), self.registry, self.prefect, self.state
        )

    def listener(self, poll: float = 0) -> Listener:
        self.watcher.begin()
        return Listener(self.watcher, self.state, [SECRET], poll)


def event(entity: str, action: str, **data: Any) -> bytes:
    """An event as MLflow writes it."""
    said = {"entity": entity, "action": action, "timestamp": "2026-11-25T12:00:00+00:00"}
    return json.dumps({**said, "data": data}).encode()


def alias_set(model: str, version: str, alias: str = "candidate") -> bytes:
    return event("model_version_alias", "created", name=model, alias=alias, version=version)


def version_created(model: str, version: str) -> bytes:
    return event(
        "model_version", "created", name=model, version=version, source="models:/m-1",
        run_id=None, tags={}, description=None,
    )  # fmt: skip


def signed(
    body: bytes, *, secret: str = SECRET, delivery: str | None = None, at: float | None = None
) -> dict[str, str]:
    """The headers of a delivery, by the rule that MLflow documents."""
    delivery = delivery or str(uuid.uuid4())
    stamp = str(int(time.time() if at is None else at))
    text = f"{delivery}.{stamp}.".encode() + body
    digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": stamp,
        "X-MLflow-Signature": f"v1,{b64encode(digest).decode()}",
    }
