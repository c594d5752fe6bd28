"""Registry events on real servers: MLflow delivers and signs, Prefect starts what a rule names."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from conftest import BIN, Server, free_port

pytestmark = pytest.mark.slow

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
SERVED = """
import sys
from pathlib import Path
from prefect import flow, serve

@flow
def note(text: str):
    with Path(sys.argv[1]).open("a") as file:
        file.write(text + "\\n")

serve(note.to_deployment("hone"), note.to_deployment("raw"), limit=4)
"""


@dataclass
class Stack:
    """The servers, and what the deployments wrote."""

    folder: Path
    environment: dict[str, str]
    mlflow_server: Server
    mlflow: Any
    listener: Server
    port: int

    def hone(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "hone"), *arguments], env={**self.environment, **more},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def noted(self) -> list[str]:
        file = self.folder / "noted"
        return sorted(file.read_text().splitlines()) if file.exists() else []

    def version(self, model: str) -> str:
        try:
            self.mlflow.create_registered_model(model)
        except mlflow.MlflowException as error:
            assert error.error_code == "RESOURCE_ALREADY_EXISTS"
        return str(self.mlflow.create_model_version(model, source="s3://nowhere/x").version)


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, databases: Path) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("listen")
    ports = [free_port() for _ in range(3)]
    environment = {
        **os.environ,
        "HONE_HOME": str(folder / "home"),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{ports[0]}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports[1]}",
        "HONE_WEBHOOK_SECRET": SECRET,
        "HONE_RULES": str(folder / "rules.yaml"),
        "DO_NOT_TRACK": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    (folder / "rules.yaml").write_text(RULES)
    (folder / "served.py").write_text(SERVED)
    (folder / "prefect").mkdir()
    for name, to in (("prefect.db", folder / "prefect"), ("mlflow.db", folder)):
        if (databases / name).exists():
            with sqlite3.connect(databases / name) as made, sqlite3.connect(to / name) as copy:
                made.backup(copy)
    servers = [
        Server(
            [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(ports[0])],
            f"http://127.0.0.1:{ports[0]}/api/health", folder / "prefect.log", environment,
        ),
        Server(
            [
                sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1",
                "--port", str(ports[1]), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
                "--artifacts-destination", str(folder / "artifacts"),
            ],
            f"http://127.0.0.1:{ports[1]}/health", folder / "mlflow.log", environment,
        ),
        Server(
            [str(BIN / "hone"), "listen", "--port", str(ports[2]), "--poll", "0"],
            f"http://127.0.0.1:{ports[2]}/health", folder / "listener.log", environment,
        ),
    ]  # fmt: skip
    prefect, registry, listener = servers
    uri = environment["MLFLOW_TRACKING_URI"]
    served = None
    try:
        prefect.start()
        registry.start()
        served = subprocess.Popen(
            [sys.executable, str(folder / "served.py"), str(folder / "noted")],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        made = Stack(
            folder, environment, registry, mlflow.MlflowClient(uri, registry_uri=uri), listener,
            ports[2],
        )  # fmt: skip
        yield made
    finally:
        if served is not None:
            served.kill()
            served.wait()
        for server in reversed(servers):
            server.stop()


def test_a_rule_that_names_a_missing_deployment(stack: Stack) -> None:
    until(lambda: "no deployment" not in stack.hone("listen", "--register").stderr)
    wrong = stack.folder / "wrong.yaml"
    wrong.write_text(RULES.replace("note/raw", "note/row"))
    for command in (("listen", "--rules", str(wrong)),):
        refused = stack.hone(*command)
        assert refused.returncode == 2
        assert "wrong.yaml:6: there is no deployment 'note/row': did you mean" in refused.stderr
    wrong.write_text(RULES.replace("{text:", "{txt:"))
    refused = stack.hone("listen", "--rules", str(wrong))
    assert "has no parameter 'txt': did you mean 'text'?" in refused.stderr


def test_the_traps_of_webhooks_say_what_to_do(stack: Stack) -> None:
    address = f"http://127.0.0.1:{stack.port}"
    for url, variable in (
        (address, "MLFLOW_WEBHOOK_ALLOWED_SCHEMES"),
        (address.replace("http", "https"), "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"),
    ):
        refused = stack.hone("listen", "--register", "--url", url)
        assert refused.returncode == 2
        assert variable in refused.stderr
        assert SECRET not in refused.stderr + refused.stdout


def test_a_signed_webhook_starts_the_right_flow(stack: Stack) -> None:
    from cryptography.fernet import Fernet

    stack.mlflow_server.stop()
    stack.environment.update(
        MLFLOW_WEBHOOK_ALLOWED_SCHEMES="https,http",
        MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true",
        MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=Fernet.generate_key().decode(),
        MLFLOW_WEBHOOK_CACHE_TTL="1",
    )
    stack.mlflow_server._env.update(stack.environment)
    stack.mlflow_server.start()
    stack.listener.start()
    for said in ("made", "updated"):
        done = stack.hone("listen", "--register", "--url", f"http://127.0.0.1:{stack.port}")
        assert done.returncode == 0, done.stderr
        assert f"{said} the webhook 'hone'" in done.stdout
        assert "an example arrived" in done.stdout
    (webhook,) = stack.mlflow.list_webhooks()
    assert webhook.url == f"http://127.0.0.1:{stack.port}/mlflow"
    version = stack.version("digits-a")
    stack.version("raw-a")
    stack.version("other")
    stack.mlflow.set_registered_model_alias("digits-a", "candidate", version)
    stack.mlflow.set_registered_model_alias("digits-a", "champion", version)
    until(lambda: stack.noted() == ["digits-a 1 candidate", "raw-a 1"])


def test_what_was_missed_is_started_once(stack: Stack) -> None:
    stack.listener.stop()
    before = stack.noted()
    for number in range(4):
        stack.version(f"raw-{number}")
        version = stack.version(f"digits-{number}")
        stack.mlflow.set_registered_model_alias(f"digits-{number}", "candidate", version)
    code = "from prefect_hone.flows.reconcile import reconcile; print(reconcile())"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], env=stack.environment, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    expected = sorted(
        [*before, *(f"raw-{n} 1" for n in range(4)), *(f"digits-{n} 1 candidate" for n in range(4))]
    )
    until(lambda: stack.noted() == expected)


def test_a_key_that_is_gone(stack: Stack) -> None:
    from cryptography.fernet import Fernet

    stack.mlflow_server.stop()
    stack.mlflow_server._env["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"] = (
        Fernet.generate_key().decode()
    )
    stack.mlflow_server.start()
    refused = stack.hone("listen", "--register", "--url", f"http://127.0.0.1:{stack.port}")
    assert refused.returncode == 1
    assert "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY" in refused.stderr
    found = stack.hone("doctor")
    assert "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY" in found.stdout
