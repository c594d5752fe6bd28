"""Parts of the local stack that need no server: its folder, its secrets, its processes."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from prefect_hone.flows.operate.stack import databases, stack
from prefect_hone.flows.operate.stack.folder import StackFolder, is_free
from prefect_hone.flows.operate.stack.process import (
    MARK,
    Service,
    end,
    find,
    left_behind,
    start,
    stop,
)
from prefect_hone.flows.operate.stack.services import NODES, client_environment, services, share
from prefect_hone.flows.operate.stack.stack import exports, status
from prefect_hone.recipe.errors import HoneError, InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackFolder:
    monkeypatch.setattr("prefect_hone.flows.operate.stack.folder._SYSTEM_DATA", tmp_path / "var")
    made = StackFolder(tmp_path / "stack")
    made.prepare()
    yield made
    made.delete()


def test_passwords_are_generated_once_and_only_their_owner_reads_them(folder: StackFolder) -> None:
    first = folder.secrets
    folder.prepare()
    assert folder.secrets == first
    assert len(set(first.values())) == len(first)
    assert all(len(secret) >= 32 for secret in first.values())
    for name in ("secrets.json", "pgpass", "stack.json"):
        assert stat.S_IMODE((folder.root / name).stat().st_mode) == 0o600, name


def test_no_secret_is_on_a_command_line(folder: StackFolder) -> None:
    for service in services(folder):
        for secret in folder.secrets.values():
            assert secret not in " ".join(service.command), service.name


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
def test_rays_nodes_share_the_cores(cores: int) -> None:
    shares = [share(cores, number + 1) for number in range(NODES)]
    assert sum(shares) == max(cores, NODES)
    assert max(shares) - min(shares) <= 1


def test_services_wait_for_those_that_come_before_them(folder: StackFolder) -> None:
    names: list[str] = []
    for service in services(folder):
        assert set(service.after) <= set(names), service.name
        names.append(service.name)
    assert names[:5] == ["postgres", "redis", "prefect", "mlflow", "ray-head"]


def test_what_a_shell_exports_is_what_the_worker_gets(folder: StackFolder) -> None:
    lines = exports(folder).splitlines()
    shown = subprocess.run(
        ["bash", "-c", "set -e; eval \"$0\"; env", exports(folder)],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    expected = client_environment(folder)
    assert len(lines) == len(expected)
    assert {f"{name}={value}" for name, value in expected.items()} <= set(shown)


def test_ports_stay_unless_somebody_took_them(folder: StackFolder) -> None:
    ports = dict(folder.layout["ports"])
    assert len(set(ports.values())) == len(ports)
    assert all(is_free(port) for port in ports.values())
    folder.choose_ports_again({"mlflow"})
    again = folder.layout["ports"]
    assert {n for n in ports if ports[n] != again[n]} == {"mlflow"}


#: Listens on a port, as a server of the stack does.
_LISTENS = "import socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); time.sleep(60)"


def one_service(folder: StackFolder, before: Callable[[], None]) -> list[Service]:
    """MLflow's place in the stack, taken by a small server."""
    port = folder.port("mlflow")

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    command = [sys.executable, "-I", "-S", "-c", _LISTENS, str(port)]
    return [Service("mlflow", command, f"127.0.0.1:{port}", answers, before=before)]


def test_a_port_that_is_taken_between_its_choice_and_its_use_is_left(
    folder: StackFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as strangers:
        taken = []

        def take() -> None:
            if len(taken) < most:
                stranger = strangers.enter_context(socket.socket())
                stranger.bind(("127.0.0.1", folder.port("mlflow")))
                taken.append(stranger.getsockname()[1])  # and answers nothing

        monkeypatch.setattr(databases, "require", lambda: None)
        monkeypatch.setattr(stack, "services", lambda folder: one_service(folder, take))
        said: list[str] = []
        most = 2
        stack.up(folder, said.append, 60)
        assert len(set(taken)) == 2
        assert [line for line in said if "took the port of mlflow" in line] == said[:2]
        assert folder.port("mlflow") not in taken
        stack.down(folder, said.append)
        most, before = 9, len(taken)
        with pytest.raises(HoneError, match="mlflow ended while it started"):
            stack.up(folder, said.append, 60)
        assert len(taken) - before == stack._TRIES
        assert find(folder, "mlflow") is None


def test_a_service_that_ends_for_another_reason_is_not_started_again(
    folder: StackFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[int] = []
    wrong = Service("mlflow", ["false"], "", lambda: False, before=lambda: began.append(1))
    monkeypatch.setattr(databases, "require", lambda: None)
    monkeypatch.setattr(stack, "services", lambda _: [wrong])
    with pytest.raises(HoneError, match="mlflow ended while it started"):
        stack.up(folder, lambda _: None, 60)
    assert began == [1]


def test_a_service_that_was_too_slow_for_its_own_limit_is_started_once_more(
    folder: StackFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "import pathlib, sys, time; p = pathlib.Path(sys.argv[1]); n = p.exists(); p.touch(); "
    slow = code + "print('too slow', flush=True); n and time.sleep(60)"
    command = [sys.executable, "-I", "-S", "-c", slow, str(tmp_path / "began")]
    second = folder.logs / "ray-node-1.log.1"  # the first one's log, kept beside the second's
    service = Service("ray-node-1", command, "", second.exists, slow="too slow")
    monkeypatch.setattr(databases, "require", lambda: None)
    monkeypatch.setattr(stack, "services", lambda _: [service])
    stack.up(folder, lambda _: None, 60)
    stack.down(folder, lambda _: None)
    always = replace(service, command=[*command[:4], "print('too slow')"], ready=lambda: False)
    monkeypatch.setattr(stack, "services", lambda _: [always])
    with pytest.raises(HoneError, match="ray-node-1 ended while it started"):
        stack.up(folder, lambda _: None, 60)


def test_a_process_is_known_from_its_first_moment_and_ended_by_its_id(folder: StackFolder) -> None:
    code = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('up', flush=True); time.sleep(60)"
    )
    service = Service("sleeper", [sys.executable, "-c", code], "nowhere", lambda: True)
    start(service, folder)
    process = find(folder, "sleeper")
    assert process is not None
    assert process.environ()[MARK] == f"{folder.mark}-sleeper"
    deadline = time.monotonic() + 20
    while not process.children() and time.monotonic() < deadline:
        time.sleep(0.05)
    (child,) = process.children()
    process.kill()  # as if it crashed: its child is left
    while find(folder, "sleeper") is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [p.pid for p in left_behind(f"{folder.mark}-sleeper")] == [child.pid]
    end(left_behind(f"{folder.mark}-sleeper"))
    assert not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE


def test_a_process_that_only_has_the_same_id_is_not_ended(folder: StackFolder) -> None:
    record = folder.records / "postgres.json"
    record.write_text(f'{{"pid": {os.getpid()}, "started": 1.0}}')
    assert find(folder, "postgres") is None
    record.write_text("")  # `up` was killed before the process began
    assert find(folder, "postgres") is None
    assert {state.state for state in status(folder)} == {"stopped"}


def test_stopping_asks_first(folder: StackFolder, tmp_path: Path) -> None:
    said = tmp_path / "said"
    code = (
        "import pathlib, signal, sys, time\n"
        f"def bye(*_): pathlib.Path({str(said)!r}).write_text('bye'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, bye); print('up', flush=True); time.sleep(60)"
    )
    service = Service("polite", [sys.executable, "-c", code], "nowhere", lambda: True)
    start(service, folder)
    deadline = time.monotonic() + 20
    while "up" not in (folder.logs / "polite.log").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    process = find(folder, "polite")
    assert process is not None
    stop(process, service.stop_signal, 10)
    assert said.read_text() == "bye"


def test_what_is_not_installed_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "postgres_programs", lambda: None)
    monkeypatch.setattr(databases.shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="not installed here") as caught:
        databases.require()
    command = "sudo apt-get install --no-install-recommends postgresql redis-server"
    assert re.search(command, str(caught.value))


def test_a_shell_gets_the_credentials_that_it_evaluates(
    hone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Elsewhere the output hides them."""
    monkeypatch.setattr("prefect_hone.flows.operate.stack.folder._SYSTEM_DATA", tmp_path / "var")
    monkeypatch.delenv("HONE_STORE", raising=False)
    made = StackFolder(hone.home / "stack")
    made.prepare()
    said = hone.run("stack", "env")
    assert said.returncode == 0, said.stderr
    names = list(client_environment(made))
    done = subprocess.run(
        ["sh", "-c", f"{said.stdout}\nfor n in {' '.join(names)}; do eval echo \\$$n; done"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert dict(zip(names, done.stdout.splitlines(), strict=True)) == client_environment(made)
    made.delete()
