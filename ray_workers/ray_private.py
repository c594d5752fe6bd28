"""Every use of Ray's private API: its purpose, and what happens if the part is gone.

Nothing else in Hone imports `ray._...`. `tests/ray_workers/test_ray_private.py` tests each use, so
a new version of Ray that moves a part is noticed there.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import psutil

#: No cluster has this id; a cluster says so, after it has checked the token.
_NO_CLUSTER = "0" * 56

Answer = Literal["admits", "refuses", "silent", "unknown"]


def _part(module: str, name: str) -> Any:
    """A part of Ray; None: it does not exist."""
    try:
        return getattr(importlib.import_module(f"ray.{module}"), name, None)
    except ImportError:
        return None


def silence_lost_workers() -> None:
    """Ray prints a lost worker on standard output even with `log_to_driver=False`.

    In Hone the step handles a lost worker and reports it. Without the part, Ray prints.
    """
    if _part("_private.worker", "print_to_stdstream") is not None:
        worker = importlib.import_module("ray._private.worker")
        worker.print_to_stdstream = lambda *_, **__: None  # type: ignore[attr-defined]


def start(settings: Mapping[str, Any], **options: Any) -> None:
    """`ray.init` of a cluster on this machine, with settings of Ray's own processes.

    Ray has no public API to set them from Python; they only improve speed. Without the part, Ray
    uses its defaults.
    """
    import ray

    with _safe_path(), _loopback(), without_unused_processes(), _agents_have_ports():
        try:
            ray.init(address="local", _system_config=dict(settings), **options)
        except (TypeError, RuntimeError) as error:  # how Ray refuses an option it does not know
            if "Unknown keyword" not in str(error) and "_system_config" not in str(error):
                raise
            public = {name: value for name, value in options.items() if name[0] != "_"}
            ray.init(address="local", **public)


#: What starts processes that a cluster for one run on one machine has no use for: the autoscaler,
#: the one that passes workers' logs on, and the one of the pages. Each takes half a second of a
#: core and 60 MB.
_UNUSED = ("start_monitor", "start_log_monitor", "start_api_server")


@contextlib.contextmanager
def without_unused_processes() -> Iterator[None]:
    """Let nodes start without those processes. Without the part of Ray, they have them all."""
    node = _part("_private.node", "Node")
    before = {name: getattr(node, name) for name in _UNUSED if hasattr(node, name)}
    for name in before:
        setattr(node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, starter in before.items():
            setattr(node, name, starter)


@contextlib.contextmanager
def _replaced(module: str, name: str, by: Callable[[Any], Any]) -> Iterator[None]:
    """With a function of Ray replaced by what `by` makes of it. Without the part, nothing is."""
    before = _part(module, name)
    if before is None:
        yield
        return
    holder = importlib.import_module(f"ray.{module}")
    setattr(holder, name, by(before))
    try:
        yield
    finally:
        setattr(holder, name, before)


def _loopback() -> contextlib.AbstractContextManager[None]:
    """Let a cluster have the loopback address, so that it listens on no other.

    Ray replaces this address by one that others can reach. Without the part, it listens on all.
    """
    return _replaced("_private.services", "resolve_ip_for_localhost", lambda _: lambda host: host)


#: Ports of a node's agents, as `start_raylet` names them.
_AGENT_PORTS = (
    "metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port",
    "runtime_env_agent_port",
)  # fmt: skip


def _agents_have_ports() -> contextlib.AbstractContextManager[None]:
    """Tell a node's agents their ports.

    Else they choose them, and the raylet waits for each to say so, 15 s at most: on a busy machine
    Python takes longer to import an agent, and the raylet aborts
    (https://github.com/ray-project/ray/issues/65983). Without the part, it is so.
    """

    def with_ports(start_raylet: Any) -> Any:
        def start(*arguments: Any, **options: Any) -> Any:
            unset = [name for name in _AGENT_PORTS if options.get(name) == 0]
            options |= dict(zip(unset, free_ports(len(unset)), strict=False))
            # Ray 2.60 does not hand this one to the raylet, which waits for the agent's file.
            listens = options.get("dashboard_agent_listen_port")
            persist = _part("_raylet", "persist_port")
            name = _part("_raylet", "DASHBOARD_AGENT_LISTEN_PORT_NAME")
            if listens and persist is not None and name is not None:
                given = inspect.signature(start_raylet).bind(*arguments, **options).arguments
                persist(given["session_dir"], given["node_id"], name, listens)
            return start_raylet(*arguments, **options)

        return start

    return _replaced("_private.services", "start_raylet", with_ports)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on, below those that the system gives away.

    One of those could be somebody else's connection by the time that it is listened on.
    """
    lowest = 32768
    with contextlib.suppress(OSError, ValueError):
        lowest = int(
            Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8").split()[0]
        )
    candidates = random.SystemRandom().sample(range(10_000, max(lowest, 10_500)), 200)
    found: list[int] = []
    for port in candidates:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


def _safe_path() -> contextlib.AbstractContextManager[None]:
    """Processes that are started meanwhile don't put the current folder on their path, and run with
    assertions and docstrings, without which Ray's agents end at once, and its node with them.

    They are told so, not this process's environment: other threads may be reading that. Without the
    part, they have Ray's own path.
    """

    def with_safe_path(start_process: Any) -> Any:
        def start(*arguments: Any, **options: Any) -> Any:
            given = options.get("env_updates") or {}
            options["env_updates"] = {**given, "PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": ""}
            return start_process(*arguments, **options)

        return start

    return _replaced("_private.services", "start_ray_process", with_safe_path)


def own_path(last: Callable[[], None] = lambda: None) -> Any:
    """A job whose workers import from the current folder only if this process does.

    Ray puts the driver's current folder first on its workers' path, before the standard library, so
    a `numpy.py` beside the recipe would be imported as numpy. Without the part, Ray does so.

    Args:
        last: Is called before Ray's core worker starts. Serializing the job is the last thing that
            Ray does before. Without the part, it is not called, or earlier.
    """
    import ray

    class OwnPath(ray.job_config.JobConfig):  # type: ignore[misc]
        def _serialize(self) -> Any:
            ours = {os.path.abspath(path) for path in sys.path}
            given = getattr(self, "_py_driver_sys_path", [])
            self._py_driver_sys_path = [path for path in given if path in ours]
            done = super()._serialize()
            last()
            return done

    return OwnPath()


def connecting() -> tuple[str, str] | None:
    """HOST:PORT of the GCS that this process is connecting to, and the session's folder.

    Without the part, or with `ray://`, None: nobody watches the connection.
    """
    node = _part("_private.worker", "_global_node")
    try:
        return None if node is None else (node.gcs_address, node.get_session_dir_path())
    except AttributeError:
        return None


def give_up() -> None:
    """Undo a connection that failed halfway, and end the processes that were started for it.

    They are killed first: Ray would wait for those that hang.
    """
    import ray

    for process in own_processes():
        with contextlib.suppress(psutil.Error):
            process.kill()
    with contextlib.suppress(Exception):  # it can't ask the GCS
        ray.shutdown()


@contextlib.contextmanager
def python_keeps_its_signals() -> Iterator[None]:
    """A context after which SIGTERM is Python's again.

    `ray.init` gives it a handler in C++ that prints a stack and ends the process, so that no
    `finally` of Python's runs. `signal.signal` works in the main thread only, and Ray is started in
    another. Without the part, Ray's handler stays.
    """
    import ctypes
    import signal

    get = getattr(ctypes.pythonapi, "PyOS_getsig", None)
    put = getattr(ctypes.pythonapi, "PyOS_setsig", None)
    if get is None or put is None:
        yield
        return
    get.argtypes, get.restype = [ctypes.c_int], ctypes.c_void_p
    put.argtypes, put.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    before = get(signal.SIGTERM)
    try:
        yield
    finally:
        put(signal.SIGTERM, before)


def own_processes() -> list[psutil.Process]:
    """Ray's processes on this machine that this process started, and theirs.

    By the place of their program or by their title: while Ray starts, it does not say which it has
    started.
    """
    ray = sys.modules.get("ray")
    if ray is None or ray.__file__ is None:
        return []
    place = str(Path(ray.__file__).parent)
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if any(w.startswith((place, "ray::")) for w in words[:4]):
                found.append(process)
    return found


#: Without one of these, a cluster is lost.
_HEADS = ("gcs_server", "raylet")


def head_processes() -> dict[str, psutil.Process]:
    """Those of our own processes without which a cluster is lost, by name; without them, none."""
    found = {}
    for process in own_processes():
        with contextlib.suppress(psutil.Error):
            if (name := process.name()) in _HEADS:
                found[name] = process
    return found


def free_by_node() -> list[dict[str, float]]:
    """What each node that is alive has free now.

    The public API has this only for the whole cluster, where half a free core on each of two nodes
    counts as one core. Without the part that number is used, and a placement group that can't be
    placed is requested again.
    """
    import ray

    by_node = _part("_private.state", "available_resources_per_node")
    if by_node is None:
        return [dict(ray.available_resources())]
    return [dict(free) for free in by_node().values()]


def resolve(address: str) -> str:
    """The HOST:PORT that `auto` stands for; any other address is returned unchanged, as is `auto`
    without the part.

    Raises:
        ConnectionError: No cluster runs on this machine.
    """
    find = _part("_private.services", "canonicalize_bootstrap_address")
    if address != "auto" or find is None:
        return address
    return find(address) or address


@contextlib.contextmanager
def authentication(mode: str, token: str | None = None) -> Iterator[None]:
    """A context with Ray's authentication mode, for this process and those that it starts.

    Ray reads the environment once per process. It must be made to read it again, also to forget the
    mode and token of one cluster before joining the next. Without the part, the first cluster of a
    process can still be joined.

    Args:
        mode: `token` or `disabled`.
        token: None leaves it to Ray's own places: `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH`,
            `~/.ray/auth_token`.
    """
    wanted = {"RAY_AUTH_MODE": mode} | ({} if token is None else {"RAY_AUTH_TOKEN": token})
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    _read_again()
    # At once, in this thread: else one of Ray's own threads reads the environment later, while
    # another thread of this process may be changing it, which C's getenv does not survive.
    token_problem()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ[name] = value or ""  # not removed: see `child_environment.empty`
        _read_again()


def _read_again() -> None:
    config = _part("_raylet", "Config")
    loader = _part("_raylet", "AuthenticationTokenLoader")
    if config is None or loader is None:
        return
    # In this order: a thread of Ray's that asks for the token in between finds the mode that it
    # has one for, and Ray aborts the process where it finds none.
    config.initialize("")
    loader.instance().reset_cache()


def token_problem() -> str | None:
    """Why there is no token; None if there is one.

    Ray aborts a process that should send a token and has none. Without the part, Ray reports that
    there is none.
    """
    loader = _part("_raylet", "AuthenticationTokenLoader")
    if loader is None:
        return None
    from ray.exceptions import RayError

    try:
        there = loader.instance().has_token(ignore_auth_mode=True)
    except RayError as error:
        return str(getattr(error, "message", error))
    return None if there else "there is none"


def ask(address: str, seconds: float) -> Answer:
    """Whether a cluster admits this process, by a request that changes nothing.

    `ray.init` tries for 20 s, with one C++ log line per second, before it fails. A client that
    claims to know the cluster's id skips that. Without the part the answer is `unknown`.

    Args:
        address: HOST:PORT of an HTTP/2 server.
        seconds: Longest wait.
    """
    client = _part("_raylet", "GcsClient")
    refused = _part("exceptions", "AuthenticationError")
    if client is None or refused is None:
        return "unknown"
    from ray.exceptions import RayError

    try:
        request = client(address=address, cluster_id=_NO_CLUSTER).check_alive
    except (AttributeError, TypeError, ValueError):
        return "unknown"
    try:
        request([], seconds)
    except refused as error:
        return "admits" if "WrongClusterID" in str(error) else "refuses"
    except RayError:
        return "silent"
    return "admits"
