"""Registry events on real servers: MLflow delivers and signs, Prefect starts what a rule names."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest
from cryptography.fernet import Fernet
from prefect import flow
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_hone.flows.engine.assets import asset_key, materializing, of_model, tell_version
from prefect_hone.flows.engine.events import champion_changed
from prefect_hone.flows.engine.settings import Settings
from prefect_hone.flows.operate.event_checks import check_events
from prefect_hone.flows.operate.reconciling import reconcile_registry
from prefect_hone.flows.operate.registration import register
from prefect_hone.flows.operate.rules import parse_rules
from prefect_hone.flows.operate.starting import PrefectStarter, Start
from prefect_hone.recipe.errors import HoneError, InputError
from prefect_hone.tasks.tracking.ledger import Event, Record
from prefect_hone.tasks.tracking.webhooks import Webhooks

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
SECRET = "a secret of the tests, long enough"
RULES = """
rules:
  - on: alias candidate set on digits-*
    run: note/hone
    parameters: {text: "{model} {version} {alias}"}
  - on: version created in raw-*
    run: note/raw
    parameters: {text: "{model} {version}"}
"""


@flow
def note(text: str) -> None:
    """Stands for what a rule starts; nothing here runs it."""


@dataclass
class Stack:
    """The servers and their addresses."""

    prefect: Any
    mlflow_server: Any
    listener: Any
    uri: str
    address: str
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        self.client = mlflow.MlflowClient(self.uri, registry_uri=self.uri)

    def started(self) -> list[tuple[str, str]]:
        with get_client(sync_client=True) as client:
            names = {d.id: d.name for d in client.read_deployments()}
            runs = client.read_flow_runs(limit=200)
        return sorted((names[run.deployment_id], run.parameters["text"]) for run in runs)

    def version(self, model: str) -> str:
        self.client.create_registered_model(model)
        return str(self.client.create_model_version(model, source="s3://nowhere/x").version)


def until(holds: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, databases: Path, server_kind: Any
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("listen")
    prefect_port, mlflow_port, port = (str(free_port()) for _ in range(3))
    api, uri = f"http://127.0.0.1:{prefect_port}/api", f"http://127.0.0.1:{mlflow_port}"
    environment = {
        **os.environ,
        "HONE_HOME": str(folder / "home"),
        "HONE_RULES": str(folder / "rules.yaml"),
        "HONE_WEBHOOK_SECRET": SECRET,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "DO_NOT_TRACK": "1",
    }
    (folder / "rules.yaml").write_text(RULES)
    for name, to in (("prefect.db", folder / "prefect"), ("mlflow.db", folder)):
        to.mkdir(exist_ok=True)
        if (databases / name).exists():
            with sqlite3.connect(databases / name) as made, sqlite3.connect(to / name) as copy:
                made.backup(copy)
    prefect = server_kind(
        [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", prefect_port],
        f"{api}/health", folder / "prefect.log", environment,
    )  # fmt: skip
    registry = server_kind(
        [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1",
            "--port", mlflow_port, "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination", str(folder / "artifacts"),
        ],
        f"{uri}/health", folder / "mlflow.log", environment,
    )  # fmt: skip
    listener = server_kind(
        [str(BIN / "hone"), "listen", "--port", port, "--poll", "0"],
        f"http://127.0.0.1:{port}/health", folder / "listener.log", environment,
    )  # fmt: skip
    named = {name: value for name, value in environment.items() if name.startswith("HONE_")}
    try:
        prefect.start()
        registry.start()
        with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_API_URL: api}):
            for name, value in {**named, "MLFLOW_TRACKING_URI": uri}.items():
                patch.setenv(name, value)
            for name in ("hone", "raw"):
                note.to_deployment(name).apply()
            listener.start()
            yield Stack(prefect, registry, listener, uri, f"http://127.0.0.1:{port}")
    finally:
        for server in (listener, registry, prefect):
            server.stop()


def test_a_rule_that_names_a_missing_deployment_or_parameter(stack: Stack) -> None:
    for wrong, said in (
        (RULES.replace("note/raw", "note/row"),
         "rules.yaml:6: there is no deployment 'note/row': did you mean"),
        (RULES.replace("{text:", "{txt:"), "has no parameter 'txt': did you mean 'text'?"),
        (RULES.replace('text: "{model} {version}"', ""), "needs the parameter text"),
    ):  # fmt: skip
        with pytest.raises(InputError) as refused:
            PrefectStarter().check(parse_rules(wrong, "rules.yaml"))
        assert said in str(refused.value)


def test_a_key_starts_one_flow_run_however_often_it_is_asked_for(stack: Stack) -> None:
    starter = PrefectStarter()
    start = Start("note/hone", {"text": "once"}, "hone:s:1:x", "s", "once")
    assert len({starter.start(start) for _ in range(5)}) == 1
    assert PrefectStarter().keys("note/hone", "s") == ["hone:s:1:x"]
    assert starter.keys("note/raw", "s") == []
    with pytest.raises(InputError, match="refuses the flow run"):
        starter.start(Start("note/hone", {"text": ["x"]}, "hone:s:2:x", "s", "wrong"))
    assert [text for _, text in stack.started()].count("once") == 1


def test_a_signed_webhook_starts_the_right_deployment(stack: Stack) -> None:
    rules = parse_rules(RULES, "rules.yaml")
    assert ("webhooks", "note") in [found[:2] for found in check_events(stack.uri, True)]
    for expected in (True, False):
        webhook, is_new, wrong = register(stack.uri, rules, stack.address, SECRET)
        assert (is_new, wrong) == (expected, None), "and MLflow's example arrives"
    assert len(stack.client.list_webhooks()) == 1
    assert webhook.url == f"{stack.address}/mlflow"
    _, _, wrong = register(stack.uri, rules, stack.address, f"{SECRET}, another", name="other")
    assert wrong is not None
    assert "another secret" in wrong
    assert [found[:2] for found in check_events(stack.uri, True)] == [
        ("rules", "good"), ("webhooks", "good")
    ]  # fmt: skip
    version = stack.version("digits-a")
    stack.version("raw-a")
    stack.version("no-rule")
    stack.client.set_registered_model_alias("digits-a", "champion", version)
    stack.client.set_registered_model_alias("digits-a", "candidate", version)
    until(lambda: len(stack.started()) == 3)
    assert stack.started() == [
        ("hone", "digits-a 1 candidate"),
        ("hone", "once"),
        ("raw", "raw-a 1"),
    ]
    said = stack.listener.log.read_text()
    assert "started note/hone for digits-a alias candidate" in said


def test_what_was_missed_is_started_once(stack: Stack) -> None:
    stack.listener.stop()
    before = stack.started()
    missed = []
    for number in range(8):
        stack.version(f"raw-{number}")
        version = stack.version(f"digits-{number}")
        stack.client.set_registered_model_alias(f"digits-{number}", "candidate", version)
        missed += [("raw", f"raw-{number} 1"), ("hone", f"digits-{number} 1 candidate")]
    found = reconcile_registry("", Settings.from_environment())
    assert found.problems == ()
    assert len(found.report.started) == 16
    assert stack.started() == sorted([*before, *missed])
    stack.listener.start()
    assert reconcile_registry("", Settings.from_environment()).report.started == []
    assert stack.started() == sorted([*before, *missed])


def test_events_and_assets_arrive_at_prefect(stack: Stack) -> None:
    record = Record(event=Event.DONE, alias="champion", before="1", after="2", who="ann")

    @materializing(name="move", cache_policy=NO_CACHE)
    def move(model: str) -> str:
        tell_version(stack.uri, model, {"version": "2"})
        return model

    @flow
    def change() -> None:
        of_model(move, stack.uri, "wine")("wine")
        champion_changed("wine", record)

    change()
    wanted = ["hone.champion.changed", "prefect.asset.materialization.succeeded"]
    asked = {"filter": {"event": {"name": wanted}}}

    def arrived() -> dict[str, Any]:
        with get_client(sync_client=True) as client:
            events = client.request("POST", "/events/filter", json=asked).json()["events"]
        return {event["event"]: event for event in events}

    until(lambda: len(arrived()) == 2)
    changed, materialized = (arrived()[name] for name in wanted)
    assert changed["resource"]["prefect.resource.id"] == "hone.model.wine"
    assert changed["payload"]["after"] == "2"
    assert any(r["prefect.resource.role"] == "flow-run" for r in changed["related"])
    assert materialized["resource"]["prefect.resource.id"] == asset_key(stack.uri, "wine")
    assert materialized["payload"]["version"] == "2"


def test_a_key_that_is_gone_says_so(stack: Stack) -> None:
    stack.mlflow_server.stop()
    key = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
    stack.mlflow_server._env[key] = Fernet.generate_key().decode()
    stack.mlflow_server.start()
    with pytest.raises(HoneError, match="can't read its webhooks") as refused:
        Webhooks(stack.uri).all()
    assert key in str(refused.value)
    rules, webhooks = check_events(stack.uri, has_prefect=True)
    assert rules[:2] == ("rules", "good")
    assert webhooks[:2] == ("webhooks", "bad")
    assert key in webhooks[2]
