"""A team's servers: a real Prefect server, a real MLflow server that goes away in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.nightly
def test_an_mlflow_server_that_goes_away_in_training_loses_nothing(
    hone, project: Path, mlflow_server
) -> None:
    uri = mlflow_server.url.removesuffix("/health")
    process = hone.start(
        "run", str(project / "recipe.yaml"), "--set", "data.args={delay: 0.01}",
        "--set", "train.epochs=8", "--set", "variants=[{name: fp32}]", MLFLOW_TRACKING_URI=uri,
    )  # fmt: skip
    hone.wait_for(process, "train: epoch 2/8")
    mlflow_server.stop()
    hone.wait_for(process, "train: epoch 8/8")
    mlflow_server.start()
    out, err = process.communicate(timeout=480)
    assert process.returncode == 0, out + err
    assert "Traceback" not in out + err
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("wine").experiment_id
    (train,) = client.search_runs([experiment], "tags.mlflow.runName = 'train'")
    curve = client.get_metric_history(train.info.run_id, "train/loss")
    assert sorted(point.step for point in curve) == list(range(8 * 4))
    assert client.get_model_version_by_alias("wine", "champion").version == "1"


@pytest.mark.nightly
def test_a_real_prefect_server_shows_the_run_and_the_variant_that_changed_nothing(
    hone, project: Path, prefect_server
) -> None:
    api = prefect_server.url.removesuffix("/health")
    options = [str(project / "recipe.yaml"), "--set", "model.factory=wine_model:no_layers",
               "--set", "model.args={}", "--set", "gates=[]"]  # fmt: skip
    outcome = hone.json("run", *options, PREFECT_API_URL=api)
    by_name = {c["name"]: c for c in outcome["candidates"]}
    assert by_name["fp32@onnxruntime-cpu"]["status"] == "passed"
    assert by_name["int8@onnxruntime-cpu"]["status"] == "unchanged"
    assert "nothing to quantize" in by_name["int8@onnxruntime-cpu"]["error"]
    assert outcome["champion"]["candidate"] == "fp32@onnxruntime-cpu"

    def ask(path: str, body: dict) -> list[dict]:
        request = urllib.request.Request(
            f"{api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    (run,) = ask("/flow_runs/filter", {})
    assert run["state"]["type"] == "COMPLETED"
    assert {"hone", "wine"} <= set(run["tags"])
    assert run["name"] == "wine"
    assert run["parameters"]["recipe"] == str(project / "recipe.yaml")
    assert "gates=[]" in run["parameters"]["overrides"]
    deadline = time.monotonic() + 30
    done = ("check", "train", "export", "compile fp32@onnxruntime-cpu", "benchmark")
    expected = {**dict.fromkeys(done, "Completed"), "compress int8": "Failed"}
    states: dict[str, str] = {}
    while not expected.items() <= states.items() and time.monotonic() < deadline:
        states = {t["name"]: t["state_name"] for t in ask("/task_runs/filter", {})}
        time.sleep(0.5)  # the server is told of them a little later
    assert expected.items() <= states.items(), states
    kinds = {(item["key"], item["type"]) for item in ask("/artifacts/filter", {})}
    assert {("wine-candidates", "table"), ("wine-outcome", "markdown")} <= kinds

    gated = hone.run(
        "run", *options, "--set", "gates=[{metric: size.bytes, at_most: 1}]", PREFECT_API_URL=api
    )
    assert gated.returncode == 3
    ends = [(r["state_type"], r["state_name"]) for r in ask("/flow_runs/filter", {})]
    assert ("FAILED", "NoCandidatePassed") in ends


@pytest.mark.nightly
def test_the_flow_runs_against_prefects_ephemeral_server(hone, project: Path) -> None:
    """As code that is imported: no command line, no server of anyone's."""
    options = ["variants=[{name: fp32}]"]
    code = (
        "import os\n"
        "os.environ['HONE_ALLOWED_PREFIXES'] = 'wine_model,wine_data'\n"
        "from prefect_hone import accelerate, load_recipe\n"
        f"recipe = load_recipe({str(project / 'recipe.yaml')!r}, {options!r})\n"
        "recipe = recipe.model_copy(update={'code': None})\n"
        "state = accelerate(recipe, return_state=True)\n"
        "print(state.type.value, state.result().champion.version)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300,
        env={**hone.environment, "PYTHONPATH": str(project),
             "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "COMPLETED 1" in done.stdout


_TOKEN = "the-token-of-the-cluster-0123456789abcdef"


@pytest.fixture
def ray_head(tmp_path: Path) -> Iterator[str]:
    """`ray start --head` that asks for a token; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    sockets = tempfile.mkdtemp(prefix="hone-ray-")  # a short path, as Ray's sockets need
    log = (tmp_path / "ray.log").open("wb")
    head = subprocess.Popen(
        [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}",
         f"--temp-dir={sockets}", "--num-cpus=2", "--include-dashboard=false",
         "--object-store-memory=100000000", "--disable-usage-stats"],
        env={**os.environ, "HOME": str(tmp_path), "RAY_AUTH_TOKEN": _TOKEN},
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while b"Ray runtime started" not in (tmp_path / "ray.log").read_bytes():
            assert head.poll() is None, (tmp_path / "ray.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "ray.log").read_text()
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        family = psutil.Process(head.pid).children(recursive=True)
        head.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)
        head.wait()
        log.close()
        shutil.rmtree(sockets, ignore_errors=True)


#: Forks a process for each environment, so that Ray is imported once; those with a mode come first,
#: because Ray reads it when it is imported.
_PROBE_EACH = """
import json, os, sys
from prefect_hone.ray_workers.access import probe
from prefect_hone.recipe.errors import HoneError
for environment in json.loads(sys.argv[2]):
    if "RAY_AUTH_MODE" not in environment:
        import ray
    if os.fork() == 0:
        os.environ.update(environment)
        try:
            probe(sys.argv[1])
            said = ""
        except HoneError as error:
            said = str(error)
        print(json.dumps(said), flush=True)
        os._exit(0)
    os.wait()
"""


def probes(address: str, environment: dict[str, str], changes: list[dict[str, str]]) -> list[str]:
    """What contacting a cluster raises in each environment, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE_EACH, address, json.dumps(changes)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_ray_cluster_that_asks_for_a_token(
    hone, project: Path, ray_head: str, tmp_path: Path
) -> None:
    home = tmp_path / "user"
    (home / ".ray").mkdir(parents=True)
    options = [str(project / "recipe.yaml"), "--set", "variants=[{name: fp32}]"]
    surroundings = {"HOME": str(home), "RAY_ADDRESS": ray_head}

    def doctor(state: str, **environment: str) -> str:
        findings = hone.json(
            "doctor", code=1 if state == "bad" else 0, **surroundings, **environment
        )["findings"]
        (ray,) = (f for f in findings if f["subject"] == "Ray")
        assert ray["state"] == state, ray
        return ray["text"]

    said = doctor("bad")
    assert "requires a token, and there is none" in said
    assert "RAY_AUTH_TOKEN" in said
    probed = probes(ray_head, {**hone.environment, **surroundings}, [
        {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token"}, {"RAY_AUTH_TOKEN": "another"},
        {"RAY_AUTH_TOKEN_PATH": "/no/where"},
    ])  # fmt: skip
    for text, expected in zip(
        probed,
        (
            "RAY_AUTH_MODE=disabled sends none", "and there is none",
            "rejected the token of RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH=/no/where can't be read",
        ),
        strict=True,
    ):  # fmt: skip
        assert expected in text
    (home / ".ray" / "auth_token").touch(mode=0o600)
    *given, unreadable = probes(ray_head, {**hone.environment, **surroundings}, [
        {"RAY_AUTH_TOKEN": _TOKEN, "RAY_AUTH_MODE": "token"}, {"RAY_AUTH_TOKEN": _TOKEN}, {},
    ])  # fmt: skip
    assert "~/.ray/auth_token can't be read or is empty" in unreadable
    assert given == ["", ""]

    refused = hone.run("run", *options, RAY_AUTH_TOKEN="another", **surroundings)
    assert refused.returncode == 1
    lines = (refused.stdout + refused.stderr).splitlines()
    assert any("rejected the token of RAY_AUTH_TOKEN" in line for line in lines), lines
    assert not any("gcs_client" in line or "Traceback" in line for line in lines), lines
    assert len(lines) < 10, lines

    (home / ".ray" / "auth_token").write_text(_TOKEN)
    assert "with the token of ~/.ray/auth_token" in doctor("good")
    joined = subprocess.run(
        [sys.executable, "-c", _JOIN, ray_head], capture_output=True, text=True, check=False,
        env={**hone.environment, **surroundings}, timeout=240,
    )  # fmt: skip
    assert joined.stdout == "2.0 [41, 42]\n", joined.stdout + joined.stderr
    assert [path.name for path in (home / ".ray").iterdir()] == ["auth_token"]


#: Joins a cluster as a run does, and lets a worker send something back.
_JOIN = """
import sys
from prefect_hone.ray_workers.cluster import Cluster
cluster = Cluster(sys.argv[1])
cluster.start()
import ray
double = ray.remote(lambda number: number + 1)
print(cluster.capacity().cpus, ray.get([double.remote(40), double.remote(41)]))
cluster.close()
"""


@pytest.mark.nightly
def test_a_run_on_a_cluster_that_asks_for_a_token(
    hone, project: Path, ray_head: str, tmp_path: Path
) -> None:
    home = tmp_path / "user"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text(_TOKEN)
    run = hone.start(
        "run", str(project / "recipe.yaml"), "--set", "variants=[{name: fp32}]",
        HOME=str(home), RAY_ADDRESS=ray_head,
    )  # fmt: skip
    said = hone.wait_for(run, "train: done")  # a step, and workers that train; the rest are steps
    assert "check: done" in said
    run.terminate()
    out, err = run.communicate(timeout=240)
    assert run.returncode == 143, out + err
    assert [path.name for path in (home / ".ray").iterdir()] == ["auth_token"]
