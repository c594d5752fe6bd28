"""One process of the local stack: started on its own, remembered by id and start time, ended.

The child writes its record itself, between fork and exec: so there is no moment at which a killed
`hone stack up` leaves a process that nobody knows of.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ....runtimes.telemetry import OFF
from .folder import StackFolder

MARK = "HONE_STACK_MARK"
_SAME = 1.0  # s; a clock that is set moves the start times that are computed from it


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Service:
    """A service of the stack.

    Attributes:
        name: Its name.
        command: What starts it; never with a secret, because everybody can see it.
        address: Where it answers.
        ready: Whether it answers.
        environment: Beside this process's own.
        after: Services that must answer before it starts.
        user: The user that it runs as; None: this one.
        before: What to do before it starts.
        finish: What to do once it answers.
        stop_signal: What asks it to stop.
        patience: How long it may take to stop (s).
        slow: What it prints if the machine was too busy for a limit of its own; then it is started
            once more. Empty: it has none.
    """

    name: str
    command: Sequence[str]
    address: str
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    user: str | None = None
    before: Callable[[], None] = _nothing
    finish: Callable[[], None] = _nothing
    stop_signal: signal.Signals = signal.SIGTERM
    patience: float = 20.0
    slow: str = ""


def log_of(folder: StackFolder, name: str) -> Path:
    return folder.logs / f"{name}.log"


def mark_of(folder: StackFolder, name: str) -> str:
    """What the environment of a service has, and of all that it starts, and no other."""
    return f"{folder.mark}-{name}"


def start(service: Service, folder: StackFolder) -> None:
    """Start a service; its log begins anew, the last one is kept beside it."""
    log = log_of(folder, service.name)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    servers = ("PREFECT_", "MLFLOW_", "RAY_")
    own = OFF | {k: v for k, v in os.environ.items() if k in OFF or not k.startswith(servers)}
    as_user = {} if service.user is None else {"user": service.user, "extra_groups": ()}
    if service.user is not None:
        import pwd

        as_user["group"] = pwd.getpwnam(service.user).pw_gid  # type: ignore[assignment]
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    record = os.open(folder.records / f"{service.name}.json", flags, 0o600)

    def remember() -> None:
        pid = os.getpid()
        started = psutil.Process(pid).create_time()
        os.write(record, json.dumps({"pid": pid, "started": started}).encode())

    try:
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 (a list of our own, no shell)
                list(service.command),
                env={
                    **own,
                    **service.environment,
                    MARK: mark_of(folder, service.name),
                    "PYTHONSAFEPATH": "1",
                },
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=remember,  # no other thread of this process runs yet
                **as_user,  # type: ignore[call-overload]
            )
    finally:
        os.close(record)
    process.returncode = 0  # it outlives this command, which does not wait for it


def find(folder: StackFolder, name: str) -> psutil.Process | None:
    """The process of a service; None if it does not run."""
    try:
        said = json.loads((folder.records / f"{name}.json").read_text(encoding="utf-8"))
        process = psutil.Process(int(said["pid"]))
        same = abs(process.create_time() - float(said["started"])) < _SAME
        if same and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
        pass
    return None


def forget(folder: StackFolder, name: str) -> None:
    (folder.records / f"{name}.json").unlink(missing_ok=True)


def stop(process: psutil.Process, stop_signal: signal.Signals, patience: float) -> None:
    """Ask a process to stop, and end it, and what it started, if it takes too long."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = process.children(recursive=True)
        process.send_signal(stop_signal)
        _wait([process], patience)
        end([process, *family])


def end(processes: Sequence[psutil.Process]) -> None:
    """End processes that should have ended: first asked, then killed."""
    left = [process for process in processes if _runs(process)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    left = _wait(left, 5.0)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(left, 5.0)


def left_behind(mark: str) -> list[psutil.Process]:
    """Processes that a service started and that outlived it, by the mark in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for ends; returns what still runs. A zombie's parent may be anyone, and is not waited
    for.
    """
    deadline = time.monotonic() + seconds
    left = processes
    while left and time.monotonic() < deadline:
        left = [process for process in left if _runs(process)]
        if left:
            time.sleep(0.05)
    return left
