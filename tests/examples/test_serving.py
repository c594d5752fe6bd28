"""The examples that serve a champion: they change over without dropping a request, and only to a
version that proves itself.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import psutil
import pytest
from prefect_hone.tasks.tracking.registry import promote
from prefect_hone.tasks.tracking.rollback import rollback

from ..support.logged_models import X, store
from ..support.serving_load import EXAMPLES, asked, change_champions


@pytest.fixture
def uri(databases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = store(databases, tmp_path / "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    return uri


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import champion_switch

    return champion_switch


def test_it_follows_the_alias_and_goes_back(uri: str, tmp_path: Path, example: Any) -> None:
    switch = example.ChampionSwitch("wine", seconds=3600)
    with pytest.raises(Exception, match="wine"):
        switch.start()  # nothing is registered
    promote(uri, asked(uri, tmp_path, 2))
    switch = example.ChampionSwitch("wine", seconds=3600).start()
    begun = switch.served
    promote(uri, asked(uri, tmp_path, 3))
    assert switch.served.version == "1"
    switch.check()
    assert switch.served.version == "2"
    assert np.array_equal(switch.served.predict(X), 3 * X)
    assert np.array_equal(begun.predict(X), 2 * X), "a request ends with the version it began with"
    rollback(uri, "wine", None, "worse", "ann")
    switch.check()
    assert switch.served is begun, "the one before is still loaded"
    switch.close()


def test_a_version_that_does_not_prove_itself_never_answers(
    uri: str, tmp_path: Path, example: Any, caplog: pytest.LogCaptureFixture
) -> None:
    promote(uri, asked(uri, tmp_path, 2))
    switch = example.ChampionSwitch("wine", seconds=3600).start()
    other = asked(uri, tmp_path, 3)
    promote(uri, other)
    place = Path(mlflow.MlflowClient(uri).get_logged_model(other.model_id).artifact_location)
    (place / "requirements.txt").write_text("evil")
    with caplog.at_level(logging.ERROR, "champion"):
        switch.check()
        switch.check()  # it was refused a moment ago
    assert switch.served.version == "1"
    (said,) = [record.message for record in caplog.records if record.name == "champion"]
    assert "version 2 of wine does not load, so version 1 goes on" in said
    rollback(uri, "wine", None, "tampered", "ann")
    switch.check()
    assert switch.served.version == "1"
    switch.close()


def test_a_registry_that_is_away_stops_nothing(
    uri: str, tmp_path: Path, example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(uri, asked(uri, tmp_path, 2))
    switch = example.ChampionSwitch("wine", seconds=3600).start()

    def away(*_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(mlflow.MlflowClient, "get_model_version_by_alias", away)
    switch.check()
    assert switch.served.version == "1"
    switch.close()


def test_a_champion_that_changes_while_it_is_loaded_is_loaded_again(
    uri: str, tmp_path: Path, example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(uri, asked(uri, tmp_path, 2))
    switch = example.ChampionSwitch("wine", seconds=3600).start()
    said = iter(["2", "3", "3", "3"])
    loaded = []
    monkeypatch.setattr(switch, "_champion", lambda: next(said))
    monkeypatch.setattr(switch, "_load", lambda v: (loaded.append(v), example.Served(v, None))[1])
    switch.check()
    assert switch.served.version == "3"
    assert loaded == ["2", "3"]
    switch.close()


@pytest.mark.slow
def test_three_champions_and_a_rollback_under_load(uri: str, tmp_path: Path) -> None:
    done = change_champions(uri, tmp_path, "++-+")
    assert not done.load.failures
    assert not done.strangers()
    assert [version for _, _, version in done.moved] == ["1", "2", "3", "2", "4"]
    assert {version for _, _, version, _ in done.load.answers} == {"1", "2", "3", "4"}


@pytest.mark.nightly
def test_the_servers_of_mlflow_change_over_too(uri: str, tmp_path: Path) -> None:
    done = change_champions(
        uri, tmp_path, "+-", ("mlflow_serve.py", "--env-manager", "local"), clients=2
    )
    assert not done.load.failures
    assert not done.strangers()
    assert {version for _, _, version, _ in done.load.answers} == {"1", "2"}


@pytest.mark.nightly
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("grpc", "grpc_reflection")),
    reason="needs Ray Serve: pip install -e '.[ray-serve]' -c constraints.txt",
)
def test_ray_serve_changes_over_too(uri: str, tmp_path: Path) -> None:
    """With `serve run`'s app, one replica, and one change."""
    with tempfile.TemporaryDirectory() as short:  # Ray's sockets need a short path
        _change_over_in_ray_serve(uri, tmp_path, short)


def _change_over_in_ray_serve(uri: str, tmp_path: Path, short: str) -> None:
    promote(uri, asked(uri, tmp_path, 2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys, ray\n"
        "from ray import serve\n"
        "ray.init(num_cpus=2, include_dashboard=False)\n"
        f"serve.start(http_options={{'port': {port}}})\n"
        "from ray_serve_app import app\n"
        "serve.run(app)\n"
        "print('serving', flush=True)\n"
        "sys.stdin.read()\n"
        "serve.shutdown(); ray.shutdown()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=EXAMPLES, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MODEL": "wine", "REPLICAS": "1", "SECONDS": "0.2",
             "RAY_TMPDIR": short,
             "PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = iter(process.stdout.readline, "")
        assert any(line.strip() == "serving" for line in said), "Ray Serve did not start"
        versions, deadline = [], time.monotonic() + 120
        promoted = False
        while versions[-1:] != ["2"] and time.monotonic() < deadline:
            said = httpx.post(f"http://127.0.0.1:{port}/", json={"inputs": [[1, 1, 1]]}, timeout=60)
            assert said.status_code == 200, said.text
            version, (first, *_) = said.json()["version"], said.json()["predictions"][0]
            assert first == {"1": 2, "2": 3}[version]
            versions.append(version)
            if not promoted:
                promoted = promote(uri, asked(uri, tmp_path, 3)) is not None
        assert versions == sorted(versions)
        assert set(versions) == {"1", "2"}
    finally:
        process.stdin.close()
        process.wait(120)


def test_a_server_of_mlflow_ends_with_the_proxy_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves nobody to end it, so it notices by itself."""
    started = tmp_path / "pids"
    server = (
        "import os, subprocess, sys, time\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(started)!r} + '.new', 'w').write(f'{{os.getpid()}} {{other.pid}}')\n"
        f"os.rename({str(started)!r} + '.new', {str(started)!r})\n"
        "time.sleep(60)\n"
    )
    starter = (
        "import subprocess, sys, time\n"
        f"command = [sys.executable, {str(EXAMPLES / 'ends_with_its_starter.py')!r},\n"
        f"           sys.executable, '-c', {server!r}]\n"
        "subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)\n"
        "time.sleep(60)\n"
    )
    proxy = subprocess.Popen([sys.executable, "-c", starter])
    deadline = time.monotonic() + 60
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    servers = [psutil.Process(int(pid)) for pid in started.read_text().split()]
    proxy.kill()
    proxy.wait()
    _, alive = psutil.wait_procs(servers, timeout=30)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
