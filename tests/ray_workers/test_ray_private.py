"""The private parts of Ray that Hone reaches into are there, and Hone goes on where one is not."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prefect_hone
import pytest
from prefect_hone.ray_workers import ray_private
from prefect_hone.ray_workers.cluster import LOCAL

PACKAGE = Path(prefect_hone.__file__).parent


def without(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """As if Ray did not have a module any more."""
    monkeypatch.setitem(sys.modules, module, None)


@pytest.fixture
def no_token(tmp_path: Path) -> Iterator[Path]:
    """An environment without a token; gives its home.

    Ray forgets afterwards what it read there: it would send that token to later clusters.
    """
    monkeypatch = pytest.MonkeyPatch()
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    ray_private._read_again()
    yield tmp_path
    monkeypatch.undo()
    ray_private._read_again()


def test_nothing_else_reaches_into_ray() -> None:
    reaches = re.compile(r"\bray\._|_system_config|import _raylet")
    rooms = ("recipe", "ray_workers", "tasks", "flows")
    found = [
        str(path.relative_to(PACKAGE))
        for room in rooms
        for path in (PACKAGE / room).rglob("*.py")
        if reaches.search(path.read_text())
    ]
    assert found == ["ray_workers/ray_private.py"]


def test_lost_workers_are_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ray._private import worker

    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    ray_private.silence_lost_workers()
    worker.print_to_stdstream({"pid": 1, "is_err": False, "lines": ["lost"]}, ignore_prefix=False)
    assert capsys.readouterr().out == ""
    monkeypatch.delattr(worker, "print_to_stdstream")
    ray_private.silence_lost_workers()


def test_ray_takes_settings_of_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    assert '"_system_config"' in inspect.getsource(ray.init)
    given = []

    def init(**options: object) -> None:
        if "_system_config" in options:
            raise RuntimeError("Unknown keyword argument(s): _system_config")
        given.append(options)

    monkeypatch.setattr(ray, "init", init)
    ray_private.start({"a": 1}, num_cpus=2)
    assert given == [{"address": "local", "num_cpus": 2}]

    def fails(**_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(RuntimeError, match="no memory"):
        ray_private.start({"a": 1})


def test_a_cluster_of_ours_starts_only_what_runs_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._private.node import Node

    before = {name: getattr(Node, name) for name in ray_private._UNUSED}
    meanwhile = {}

    def init(**_: object) -> None:
        meanwhile.update({name: getattr(Node, name)(None, x=1) for name in before})

    monkeypatch.setattr(ray, "init", init)
    ray_private.start({"a": 1})
    assert meanwhile == dict.fromkeys(before)
    assert {name: getattr(Node, name) for name in before} == before
    without(monkeypatch, "ray._private.node")
    meanwhile.clear()
    monkeypatch.setattr(ray, "init", lambda **_: meanwhile.update(started=1))
    ray_private.start({"a": 1})
    assert meanwhile == {"started": 1}


def test_ray_knows_our_settings() -> None:
    def read(settings: dict) -> int:
        code = f"from ray._raylet import Config; Config.initialize({json.dumps(settings)!r})"
        return subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True
        ).returncode

    assert read(LOCAL) == 0
    assert read({"no_such_setting": 1}) != 0, "Ray aborts at one that it does not know"


def test_what_is_free_is_known_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {"a": {"CPU": 1.0}, "b": {"CPU": 2.0}}
    monkeypatch.setattr("ray._private.state.available_resources_per_node", lambda: nodes)
    assert ray_private.free_by_node() == [{"CPU": 1.0}, {"CPU": 2.0}]
    monkeypatch.setattr("ray.available_resources", lambda: {"CPU": 3.0})
    without(monkeypatch, "ray._private.state")
    assert ray_private.free_by_node() == [{"CPU": 3.0}]


def test_auto_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.7:1234")
    assert ray_private.resolve("auto") == "192.0.2.7:1234"
    assert ray_private.resolve("somewhere:1") == "somewhere:1"
    without(monkeypatch, "ray._private.services")
    assert ray_private.resolve("auto") == "auto"


def test_the_mode_and_the_token_are_for_a_while(no_token: Path) -> None:
    import os

    from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode

    loader = AuthenticationTokenLoader.instance()
    before = dict(os.environ)
    for token in ("one", "two"):
        with ray_private.authentication("token", token):
            assert get_authentication_mode() == AuthenticationMode.TOKEN
            assert loader.get_raw_token() == token
    assert get_authentication_mode() == AuthenticationMode.DISABLED
    assert not loader.has_token(ignore_auth_mode=True)
    assert {**before, "RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN": ""} == dict(os.environ)


def test_a_token_is_missed_before_ray_is_asked_to_send_it(
    no_token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ray_private.token_problem() == "there is none"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token / "nowhere"))
    problem = ray_private.token_problem()
    assert problem is not None
    assert "RAY_AUTH_TOKEN_PATH" in problem
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    (no_token / ".ray").mkdir()
    (no_token / ".ray" / "auth_token").write_text("kept")
    assert ray_private.token_problem() is None


def test_a_ray_that_can_not_be_asked_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("ray._raylet.GcsClient")
    assert ray_private.ask("127.0.0.1:9", 1) == "unknown"


def test_workers_do_not_get_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray puts it first on their path, and a numpy.py in it would be imported as numpy."""
    from ray.core.generated.common_pb2 import JobConfig

    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.syspath_prepend(str(tmp_path / "script"))
    job = ray_private.own_path()
    job._py_driver_sys_path.extend([str(tmp_path / "script"), str(tmp_path / "current")])
    sent = JobConfig.FromString(job._serialize())
    assert list(sent.py_driver_sys_path) == [str(tmp_path / "script")]


def test_agents_are_told_their_ports_and_the_raylet_does_not_wait_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray._private import services

    given: dict[str, Any] = {}

    def start_raylet(node_id: str, session_dir: str, **ports: int) -> None:
        given.update(ports)

    def init(**_: object) -> None:
        agents = dict.fromkeys(ray_private._AGENT_PORTS, 0)
        services.start_raylet(
            "n1", session_dir=str(tmp_path), **agents | {"metrics_export_port": 7}
        )

    monkeypatch.setattr(services, "start_raylet", start_raylet)
    monkeypatch.setattr(ray, "init", init)
    ray_private.start({"a": 1})
    assert services.start_raylet is start_raylet
    assert given["metrics_export_port"] == 7, "as it was asked for"
    assert len(set(given.values())) == 4
    assert all(port == 7 or 10_000 <= port < 65_536 for port in given.values())
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("dashboard_agent_listen_port")
    assert file.read_text() == str(given["dashboard_agent_listen_port"])


def test_rays_processes_have_a_safe_path_and_this_one_keeps_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may be reading the environment."""
    import ray
    from ray._private import services

    seen: list[Any] = []

    def init(**_: object) -> None:
        services.start_ray_process(["x"], "raylet", True, env_updates={"A": "1"})
        services.start_ray_process(["x"], "gcs_server", True)
        seen.append(os.environ.get("PYTHONSAFEPATH"))

    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(
        services, "start_ray_process", lambda *_, **o: seen.append(o["env_updates"])
    )
    monkeypatch.setattr(ray, "init", init)
    ray_private.start({"a": 1})
    ours = {"PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": ""}
    assert seen == [{"A": "1", **ours}, ours, None]
