"""The local stack with real servers: started, used by a deployment, looked through for secrets, ended."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from prefect_hone.flows.operate.stack import databases
from prefect_hone.flows.operate.stack.folder import StackFolder
from prefect_hone.flows.operate.stack.process import MARK, find
from prefect_hone.flows.operate.stack.services import client_environment
from prefect_hone.recipe.errors import InputError

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

_SHORT = ["variants=[{name: fp32}]", "targets=[onnxruntime-cpu]", "train.epochs=1", "gates=[]",
          "benchmark.seconds=0.2", "benchmark.batch_sizes=[1]", "benchmark.launches=2",
          "benchmark.most_launches=2"]  # fmt: skip


@pytest.fixture
def stack(hone, tmp_path: Path):
    try:
        databases.require()
    except InputError as error:
        pytest.skip(str(error))
    folder = StackFolder(hone.home / "stack")
    yield folder
    if folder.exists:
        hone.run("stack", "down", "--delete-data")


def of_the_stack(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(mark):
                found.append(process)
        except psutil.Error:
            continue
    return found


def ask(url: str, user: str, body: dict | None = None) -> dict:
    header = base64.b64encode(user.encode()).decode()
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json", "Authorization": f"Basic {header}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_a_stack_runs_a_deployment_and_leaves_nothing(hone, stack: StackFolder) -> None:
    # Killed in the middle of the start, it is stopped like any other.
    killed = hone.start("stack", "up", "--no-setup")
    hone.wait_for(killed, "postgres")
    killed.kill()
    killed.wait()
    assert of_the_stack(stack.mark)
    assert hone.run("stack", "down").returncode == 0
    assert of_the_stack(stack.mark) == []

    up = hone.run("stack", "up", "--timeout", "480", timeout=600)
    assert up.returncode == 0, up.stdout + up.stderr
    print(up.stdout)
    for part in ("block hone-servers/stack: created", "deployment accelerate/hone: created"):
        assert part in up.stdout
    states = {s["name"]: s["state"] for s in hone.json("stack", "status")["services"]}
    assert set(states.values()) == {"answers"}, states
    assert {"postgres", "redis", "prefect", "mlflow", "ray-head", "ray-node-1", "ray-node-2",
            "worker"} <= set(states)  # fmt: skip

    secrets = stack.secrets
    assert stat.S_IMODE((stack.root / "secrets.json").stat().st_mode) == 0o600
    lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    seen = {name for name, secret in secrets.items() for line in lines if secret in line}
    assert seen == set(), "secrets on command lines"
    if os.geteuid() == 0:
        for name in ("postgres", "redis"):
            process = find(stack, name)
            assert process is not None
            assert process.username() != "root", name

    mlflow = f"http://127.0.0.1:{stack.port('mlflow')}"
    search = f"{mlflow}/api/2.0/mlflow/registered-models/search"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(search, timeout=30)
    assert refused.value.code == 401
    refused.value.close()

    made = set_up(hone, stack, "--dry-run")
    assert "concurrency limit hone-measuring: would be created" in made
    made = set_up(hone, stack)
    assert "concurrency limit hone-measuring: created" in made
    assert "block hone-servers/stack: updated" in made, "it names the limit now"
    for part in ("block type", "automation", "work pool", "deployment"):
        lines = [line for line in made.splitlines() if line.startswith(part)]
        assert lines
        assert all(line.endswith(": as it was") for line in lines), lines

    run = deployed_run(stack, "accelerate/hone", {"recipe": "digits", "overrides": _SHORT})
    log = (stack.logs / "worker.log").read_text()
    assert run["state"]["type"] == "COMPLETED", f"{run['state']['message']}\n{log[-4000:]}"
    found = ask(search, f"hone:{secrets['mlflow_hone']}")["registered_models"]
    models = {model["name"]: model for model in found}
    assert set(models) == {"digits", "digits.ledger"}
    assert {alias["alias"] for alias in models["digits"]["aliases"]} == {"champion"}

    texts = [path for path in stack.logs.iterdir() if path.is_file()]
    for path in texts:
        text = path.read_text(errors="replace")
        assert not [name for name, secret in secrets.items() if secret in text], path.name
    dump = dumped(stack)
    assert "hone-servers" in dump
    assert not [name for name, secret in secrets.items() if secret in dump], "in the database"

    mark, data = stack.mark, stack.data
    running = [psutil.Process(s["pid"]) for s in hone.json("stack", "status")["services"]]
    down = hone.run("stack", "down", "--delete-data")
    assert down.returncode == 0, down.stderr
    assert down.stdout.split()[:2] == ["stopped", "worker"] or "listener" in down.stdout
    assert of_the_stack(mark) == []
    zombie = psutil.STATUS_ZOMBIE  # ended, and not yet buried by whatever is process 1 here
    assert not [p for p in running if p.is_running() and p.status() != zombie]
    assert not stack.root.exists()
    assert not data.exists()


def set_up(hone, stack: StackFolder, *options: str) -> str:
    done = hone.run("setup", "--pool", "hone", "--block", "stack", "--measurements", "1", *options,
                    **client_environment(stack))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def deployed_run(stack: StackFolder, name: str, parameters: dict) -> dict:
    """Start a deployment's run, and wait for its end."""
    api = f"http://127.0.0.1:{stack.port('prefect')}/api"
    user = f"hone:{stack.secrets['prefect']}"
    deployment = ask(f"{api}/deployments/name/{name}", user)
    run = ask(f"{api}/deployments/{deployment['id']}/create_flow_run", user,
              {"parameters": parameters, "state": {"type": "SCHEDULED"}})  # fmt: skip
    deadline = time.monotonic() + 420
    while time.monotonic() < deadline:
        run = ask(f"{api}/flow_runs/{run['id']}", user)
        if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return run
        time.sleep(0.5)
    pytest.fail(
        f"it did not end: {run['state']}\n{(stack.logs / 'worker.log').read_text()[-3000:]}"
    )


def dumped(stack: StackFolder) -> str:
    """All that Prefect and MLflow keep in PostgreSQL, as text."""
    programs = databases.postgres_programs()
    assert programs is not None
    tool = shutil.which("pg_dump") or str(programs / "pg_dump")
    return "".join(
        subprocess.run(
            [tool, "-h", "127.0.0.1", "-p", str(stack.port("postgres")), "-U", "postgres", name],
            env={**os.environ, "PGPASSFILE": str(stack.passfile)},
            capture_output=True, text=True, check=True,
        ).stdout
        for name in ("prefect", "mlflow")
    )  # fmt: skip
