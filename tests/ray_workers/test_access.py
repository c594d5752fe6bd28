"""Whether a Ray cluster lets us in; one that asks is in `tests/journeys/test_servers.py`."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect_hone.ray_workers.access import probe, require_cluster
from prefect_hone.recipe.errors import ServerUnreachable

#: Before anything is started, and before Ray is.
both = pytest.mark.parametrize("look", [require_cluster, probe])


@both
def test_nobody_answers(look: Callable[[str], object]) -> None:
    address = "127.0.0.1:9"
    with pytest.raises(ServerUnreachable, match="does not answer") as caught:
        look(address)
    assert caught.value.where == f"RAY_ADDRESS={address}"
    assert "ray start --head" in str(caught.value.do)


@both
def test_a_name_that_is_not_known(look: Callable[[str], object]) -> None:
    with pytest.raises(ServerUnreachable, match="does not answer"):
        look("no-such-host.invalid:6379")


def test_a_web_server_is_not_a_cluster() -> None:
    """Such as Ray's dashboard, whose address is easily taken for the cluster's."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ServerUnreachable, match="not a Ray cluster"):
            probe(f"127.0.0.1:{server.server_port}")
        server.shutdown()


@both
def test_one_who_says_nothing_is_not_a_cluster(
    monkeypatch: pytest.MonkeyPatch, look: Callable[[str], object]
) -> None:
    monkeypatch.setattr("prefect_hone.ray_workers.access._SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ServerUnreachable, match="not a Ray cluster"):
            look(f"127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:9"])
def test_what_only_ray_understands_is_left_to_it(address: str) -> None:
    require_cluster(address)


@pytest.mark.slow
def test_a_cluster_of_ours_has_a_token_of_its_own_and_leaves_none(tmp_path: Path) -> None:
    """Not even where the home can't be written, or holds something odd in the token's place."""
    code = """
import contextlib, ctypes, ipaddress, os, signal, subprocess, sys
from prefect_hone.ray_workers import ray_private
from prefect_hone.ray_workers.cluster import Cluster
handler = ctypes.pythonapi.PyOS_getsig
handler.restype = ctypes.c_void_p
ray_private.python_keeps_its_signals = contextlib.nullcontext  # nothing puts it back
before, before_ray = dict(os.environ), handler(signal.SIGTERM)
tokens = set()
for _ in range(2):
    cluster = Cluster()
    cluster.start()
    assert handler(signal.SIGTERM) == before_ray, "SIGTERM would abort the process while Ray starts"
    import ray
    tokens.add(os.environ["RAY_AUTH_TOKEN"])
    address = ray.get_runtime_context().gcs_address
    stranger = "from prefect_hone.ray_workers.ray_private import ask; print(ask(%r, 5))" % address
    print(subprocess.check_output([sys.executable, "-c", stranger], env=before, text=True).strip())
    assert ray.get(ray.remote(lambda: 3).remote()) == 3
    started = [" ".join(process.cmdline()) for process in ray_private.own_processes()]
    assert any("raylet" in line for line in started), started
    unused = ("autoscaler", "log_monitor.py", "dashboard/dashboard.py")
    assert not [line for line in started for name in unused if name in line], started
    places = {
        place.laddr.ip.removeprefix("::ffff:")  # of IPv4
        for process in ray_private.own_processes()
        for place in process.net_connections("inet")
        if place.status == "LISTEN"
    }
    assert places and all(ipaddress.ip_address(ip).is_loopback for ip in places), places
    cluster.close()
assert len(tokens) == 2
after = {name: value for name, value in os.environ.items() if "AUTH" in name and value}
assert after == {name: value for name, value in before.items() if "AUTH" in name}, after
"""
    home = tmp_path / "home"
    (home / ".ray" / "auth_token").mkdir(parents=True)
    home.chmod(0o500)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_AUTH", "RAY_ADD"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "HOME": str(home)}, check=False,
        capture_output=True, text=True, timeout=480,
    )  # fmt: skip
    home.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refuses", "refuses"]
    assert list((home / ".ray").rglob("*")) == [home / ".ray" / "auth_token"]
