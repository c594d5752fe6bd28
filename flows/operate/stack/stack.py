"""The local stack: up, down, and how it is.

`up` starts what does not run yet, each service once those that it needs answer, and returns when
all do. Nothing supervises them: `status` says what died, and `up` again starts that.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ....recipe.errors import HoneError
from ....recipe.showable import remember
from ...engine.settings import Settings
from . import databases
from .folder import StackFolder, is_free
from .process import Service, end, find, forget, left_behind, log_of, mark_of, start, stop
from .services import client_environment, services

Say = Callable[[str], None]
State = Literal["answers", "starting", "stopped"]

#: Ports are chosen before they are used, so another process may take one in between.
_TRIES = 4
#: The port of a service that is not called as the service.
_PORT_OF = {"ray-head": "ray"}


class _PortTaken(Exception):
    """A service ended while it started, and somebody else has its port."""

    def __init__(self, service: str, port: str, failed: HoneError) -> None:
        super().__init__(service)
        self.service, self.port, self.failed = service, port, failed


@dataclass(frozen=True)
class ServiceState:
    """How a service is.

    Attributes:
        name: Its name.
        state: `answers`; `starting`: it runs and does not answer (yet); `stopped`.
        address: Where it answers.
        pid: Its process.
        log: What it prints.
    """

    name: str
    state: State
    address: str
    pid: int | None
    log: str


def stack_folder() -> StackFolder:
    """The folder of this user's stack, in HONE_HOME."""
    return StackFolder(Settings.from_environment().home / "stack")


def up(folder: StackFolder, say: Say, seconds: float = 180.0) -> float:
    """Start the stack, or what is missing of it; returns how long that took (s).

    Args:
        folder: Its folder.
        say: Told of each service that answers.
        seconds: Longest wait for all of them.

    Raises:
        InputError: Something is not installed.
        HoneError: A service did not start; what was started here is stopped again.
    """
    began = time.monotonic()
    with folder.held():
        folder.prepare()
        remember(folder.secrets.values())
        _move_from_taken_ports(folder)
        databases.require()
        for left in reversed(range(_TRIES)):
            try:
                _start_or_stop(folder, say, began + seconds)
                break
            except _PortTaken as error:
                if not left:
                    raise error.failed from None
                say(f"somebody else took the port of {error.service} meanwhile: choosing another")
                folder.choose_ports_again({error.port})
    return time.monotonic() - began


def _start_or_stop(folder: StackFolder, say: Say, deadline: float) -> None:
    """Start what is missing; if that fails, stop what was started here."""
    started: list[Service] = []
    try:
        _start_all(services(folder), folder, say, deadline, started)
    except BaseException:
        for service in reversed(started):
            _stop(service, folder)
        raise


def _start_all(
    planned: list[Service], folder: StackFolder, say: Say, deadline: float, started: list[Service]
) -> None:
    began = time.monotonic()
    answering: set[str] = set()
    again: set[str] = set()
    waiting = list(planned)
    while len(answering) < len(planned):
        for service in [s for s in waiting if answering.issuperset(s.after)]:
            waiting.remove(service)
            if find(folder, service.name) is None:
                service.before()
                started.append(service)
                start(service, folder)
        for service in planned:
            if service in waiting or service.name in answering:
                continue
            if find(folder, service.name) is None:
                if service.name in again or not _was_too_slow(service, folder):
                    raise _ended(service, folder)
                again.add(service.name)
                end(left_behind(mark_of(folder, service.name)))
                start(service, folder)
            elif service.ready():
                service.finish()
                answering.add(service.name)
                say(f"{time.monotonic() - began:5.1f} s  {service.name}  {service.address}")
        if time.monotonic() > deadline:
            late = [s for s in planned if s.name not in answering and s not in waiting]
            raise _failed(late[0], folder, "did not answer in time")
        time.sleep(0.1)
    for service in planned:  # one whose port somebody else has may have seemed to answer
        if find(folder, service.name) is None:
            raise _ended(service, folder)


def _was_too_slow(service: Service, folder: StackFolder) -> bool:
    """Whether a service ended because the machine was too busy for a limit of its own."""
    log = log_of(folder, service.name)
    return bool(service.slow) and service.slow in log.read_text(errors="replace")


def _ended(service: Service, folder: StackFolder) -> Exception:
    failed = _failed(service, folder, "ended while it started")
    port = _PORT_OF.get(service.name, service.name)
    number = folder.layout["ports"].get(port)
    if number is None or is_free(int(number)):
        return failed
    return _PortTaken(service.name, port, failed)


def _failed(service: Service, folder: StackFolder, what: str) -> HoneError:
    log = log_of(folder, service.name)
    lines = log.read_text(errors="replace").splitlines()[-8:]
    return HoneError(
        f"{service.name} {what}; it printed last:\n    " + "\n    ".join(lines),
        where="the local stack",
        do=f"see {log}",
    )


def _move_from_taken_ports(folder: StackFolder) -> None:
    """Choose other ports for what does not run, if somebody else listens there meanwhile."""
    owners = {port: service for service, port in _PORT_OF.items()}
    ports = folder.layout["ports"]
    taken = {
        name
        for name, port in ports.items()
        if find(folder, owners.get(name, name)) is None and not is_free(int(port))
    }
    if taken:
        folder.choose_ports_again(taken)


def down(folder: StackFolder, say: Say, delete: bool = False) -> None:
    """Stop every process of the stack, those that started last first.

    Args:
        folder: Its folder.
        say: Told of each service that was stopped.
        delete: Delete its data, too.
    """
    if not folder.exists:
        say("there is no stack")
        return
    with folder.held():
        for service in reversed(services(folder)):
            if _stop(service, folder):
                say(f"stopped {service.name}")
        if delete:
            folder.delete()
            say(f"deleted {folder.data} and {folder.root}")


def _stop(service: Service, folder: StackFolder) -> bool:
    process = find(folder, service.name)
    if process is not None:
        stop(process, service.stop_signal, service.patience)
    end(left_behind(mark_of(folder, service.name)))
    forget(folder, service.name)
    return process is not None


def status(folder: StackFolder) -> list[ServiceState]:
    """How each service is; empty if there is no stack."""
    if not folder.exists:
        return []
    found = []
    for service in services(folder):
        process = find(folder, service.name)
        state: State = "stopped"
        if process is not None:
            state = "answers" if service.ready() else "starting"
        pid = None if process is None else process.pid
        log = str(log_of(folder, service.name))
        found.append(ServiceState(service.name, state, service.address, pid, log))
    return found


def exports(folder: StackFolder) -> str:
    """Lines for a shell that make its commands use the stack. They have secrets in them."""
    values = client_environment(folder)
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def pids(folder: StackFolder) -> dict[str, int]:
    """The processes of the services that run."""
    found = {path.stem: find(folder, path.stem) for path in sorted(folder.records.glob("*.json"))}
    return {name: process.pid for name, process in found.items() if process is not None}
