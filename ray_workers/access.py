"""Access to a Ray cluster: whether it answers, whether it requires a token, and which one.

A cluster that Hone starts has its own token, generated for it and never stored. Ray's processes
listen on all addresses of a machine, and anyone with the token can run code. Ray itself would write
a world-readable token to `~/.ray/auth_token`, and two concurrent starts would overwrite each
other's.

A cluster that Hone joins gets a token only if it requires one: from `RAY_AUTH_TOKEN`, else
`RAY_AUTH_TOKEN_PATH`, else `~/.ray/auth_token`. `RAY_AUTH_MODE`, if set, takes precedence.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from ..recipe.errors import AccessRefused, ServerUnreachable
from . import ray_private, ray_watch

_SECONDS = 5.0
_GET = "`ray get-auth-token` on the cluster's head node prints it"
_START = "start it with `ray start --head`, or unset RAY_ADDRESS to use this machine"


@dataclass(frozen=True)
class Way:
    """How to join a cluster that admits this process.

    Attributes:
        address: For `ray.init`.
        token: Source of the token that is sent; None: none is sent.
        open_to_all: The cluster requires no token.
    """

    address: str
    token: str | None = None
    open_to_all: bool = False

    def opened(self) -> contextlib.AbstractContextManager[None]:
        """A context with the token, for as long as the cluster is joined."""
        if self.token is None or _mode() is not None:
            return contextlib.nullcontext()
        return ray_private.authentication("token")


def own_token() -> contextlib.AbstractContextManager[None]:
    """A context with a new token, for a cluster that is started here.

    A token from the environment is used instead, and `RAY_AUTH_MODE=disabled` is respected.

    Raises:
        AccessRefused: The environment names a token that can't be read.
    """
    if _mode() not in (None, "token"):
        return contextlib.nullcontext()
    if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        return ray_private.authentication("token", secrets.token_hex(32))
    if ray_private.token_problem() is not None:
        raise AccessRefused(
            "the file can't be read or is empty",
            where=_source(),
            do="fix the file, or unset RAY_AUTH_TOKEN_PATH",
        )
    return ray_private.authentication("token")


def probe(address: str) -> Way:
    """Find out how a cluster can be joined, before Ray tries.

    Args:
        address: Of `RAY_ADDRESS`.

    Raises:
        ServerUnreachable: Nothing answers there, or something that is not a Ray cluster.
        AccessRefused: The cluster requires a token, and there is none or it is rejected.
    """
    where = f"RAY_ADDRESS={address}"
    try:
        found = ray_private.resolve(address)
    except ConnectionError as error:
        raise ServerUnreachable(
            "no Ray cluster was found on this machine", where=where, do=_START
        ) from error
    host, port = _host_and_port(found)
    if port is None:
        return Way(found)  # `ray://` and the like: Ray knows
    _greet(host, port, where)
    if _mode() == "token":
        _require_token(where)
        return _with_token(found, where)
    answer = ray_private.ask(found, _SECONDS)
    if answer == "silent":
        raise _not_ray(where)
    if answer != "refuses":
        return Way(found, open_to_all=answer == "admits")
    if _mode() is not None:
        raise AccessRefused(
            f"the Ray cluster requires a token, and RAY_AUTH_MODE={_mode()} sends none",
            where=where,
            do="unset RAY_AUTH_MODE",
        )
    _require_token(where)
    with ray_private.authentication("token"):
        return _with_token(found, where)


def require_cluster(address: str) -> None:
    """Refuse an address where nothing answers as Ray does, without Ray and before anything starts.

    Args:
        address: Of `RAY_ADDRESS`. Only `HOST:PORT` is tried; of others Ray knows what they mean.

    Raises:
        ServerUnreachable: Nothing answers there within seconds, or something that is not gRPC.
    """
    host, port = _host_and_port(address)
    if port is not None:
        _greet(host, port, f"RAY_ADDRESS={address}")


def answer_of(address: str, seconds: float) -> str:
    """What is at `HOST:PORT`: a gRPC server `answers`, or it is `silent`, or a port `refuses`.

    Args:
        address: The address; what can't be tried without Ray `answers`.
        seconds: Longest wait.
    """
    host, port = _host_and_port(address)
    return "answers" if port is None or _tls() else ray_watch.answer(host, port, seconds)


def _tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _mode() -> str | None:
    """The value of `RAY_AUTH_MODE`; None: it is not set."""
    return os.environ.get("RAY_AUTH_MODE", "").lower() or None


def _source() -> str:
    """Where Ray takes its token from, in Ray's order."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return f"RAY_AUTH_TOKEN_PATH={path}" if path else "~/.ray/auth_token"


def _require_token(where: str) -> None:
    problem = ray_private.token_problem()
    if problem is None:
        return
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):
        problem = f"{_source()} can't be read or is empty"
    elif (Path("~").expanduser() / ".ray" / "auth_token").exists():
        problem = "~/.ray/auth_token can't be read or is empty"
    raise AccessRefused(
        f"the Ray cluster requires a token, and {problem}",
        where=where,
        do=f"set RAY_AUTH_TOKEN to the cluster's token: {_GET}",
    )


def _with_token(address: str, where: str) -> Way:
    answer = ray_private.ask(address, _SECONDS)
    if answer == "silent":
        raise _not_ray(where)
    if answer == "refuses":
        raise AccessRefused(
            f"the Ray cluster rejected the token of {_source()}",
            where=where,
            do=f"set RAY_AUTH_TOKEN to the cluster's token: {_GET}",
        )
    return Way(address, token=_source())


def _host_and_port(address: str) -> tuple[str, int | None]:
    host, _, port = address.rpartition(":")
    if "/" in host or not port.isdigit():
        return address, None
    return host.strip("[]"), int(port)


def _greet(host: str, port: int, where: str) -> None:
    """Check that a gRPC server answers; Ray's client takes 40 s and prints log lines."""
    try:
        if _tls():
            socket.create_connection((host, port), timeout=_SECONDS).close()
            return
        head = ray_watch.greeting(host, port, _SECONDS)
    except OSError as error:
        raise ServerUnreachable(
            f"the Ray cluster does not answer ({error.strerror or error})", where=where, do=_START
        ) from error
    if head is None:
        raise _not_ray(where, f", or it hangs: it said nothing for {_SECONDS:g} s")
    if not ray_watch.is_http2(head):
        raise _not_ray(where)


def _not_ray(where: str, more: str = "") -> ServerUnreachable:
    return ServerUnreachable(
        f"what answers there is not a Ray cluster{more}",
        where=where,
        do="give the address that `ray start --head` printed (port 6379 unless you chose one; "
        "8265 is the dashboard's)",
    )
