"""Whether an MLflow server answers, known within seconds.

MLflow's own client takes more than a minute to find out that a server accepts connections and stays
silent.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median

from ...ray_workers.limited import within
from ...recipe.errors import AccessRefused, ServerUnreachable
from ...recipe.library_messages import telling
from ...recipe.showable import basic_header, without_user

SECONDS = 10.0
_HELD_UP = 0.03  # s: less than a client on Linux waits before it confirms a packet
_OTHER_WAYS = ("AUTH", "AWS_SIGV4", "CLIENT_CERT_PATH")


def problem_with(uri: str, seconds: float = SECONDS) -> str | None:
    """Why an MLflow server does not answer; None: it does, or the URI is no server's."""
    if not uri.startswith(("http://", "https://")):
        return None
    late = f"it did not answer within {seconds:g} s"
    try:
        within(seconds + 1, lambda: _ask(uri, seconds), lambda: TimeoutError(late))
    except urllib.error.HTTPError:
        return None  # something is there; what it refuses, MLflow's client explains
    except TimeoutError:
        return late
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, TimeoutError):
            return late
        return telling(reason if isinstance(reason, BaseException) else str(reason))
    except (http.client.HTTPException, OSError, ValueError) as error:
        return telling(error)
    return None


def denied(uri: str, seconds: float = SECONDS) -> str | None:
    """That an MLflow server which answers does not let this user in; None: it does.

    None also where MLflow's client identifies itself by other means than a password or a token.
    """
    if any(os.environ.get(f"MLFLOW_TRACKING_{way}") for way in _OTHER_WAYS):
        return None
    if Path("~/.mlflow/credentials").expanduser().exists():
        return None
    try:
        within(
            seconds + 1,
            lambda: _ask(uri, seconds, "/api/2.0/mlflow/experiments/search?max_results=1"),
            lambda: TimeoutError(),
        )
    except urllib.error.HTTPError as error:
        return f"denies access ({error.code})" if error.code in (401, 403) else None
    except (http.client.HTTPException, OSError, ValueError):
        return None
    return None


def late_answers(uri: str, seconds: float = SECONDS) -> tuple[float, float] | None:
    """How long an answer takes on a new and on a kept connection (s), if kept ones are held up.

    The server then sends an answer in two packets, and the second waits until the client has
    confirmed the first one, which takes it 40 ms (Nagle's algorithm, delayed acknowledgment). So
    does uvicorn with several workers on asyncio's loop: its sockets miss TCP_NODELAY.
    """
    import requests

    url = f"{without_user(uri)[0].rstrip('/')}/health"
    took = []
    try:
        with requests.Session() as session:
            for _ in range(6):
                began = time.perf_counter()
                session.get(url, timeout=seconds)
                took.append(time.perf_counter() - began)
    except (requests.RequestException, ValueError):
        return None
    first, late = took[0], median(took[1:])
    return (first, late) if late - first > _HELD_UP else None


def require_answer(uri: str) -> None:
    """Make sure that an MLflow server answers, and lets this user in.

    Raises:
        ServerUnreachable: It doesn't answer.
        AccessRefused: It wants a user and a password, or others.
    """
    if (problem := problem_with(uri)) is not None:
        raise unreachable(uri, problem)
    if uri.startswith(("http://", "https://")) and (refused := denied(uri)) is not None:
        raise AccessRefused(
            f"MLflow {refused}",
            where=uri,
            do="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN",
        )


def unreachable(uri: str, why: str) -> ServerUnreachable:
    return ServerUnreachable(
        f"MLflow does not answer: {why}",
        where=uri,
        do="start it, set MLFLOW_TRACKING_URI to where it is, or unset that to use a store on "
        "this machine",
    )


def _ask(uri: str, seconds: float, path: str = "/health") -> None:
    clean, user = without_user(uri)
    if user is None and os.environ.get("MLFLOW_TRACKING_USERNAME"):
        user = (
            os.environ["MLFLOW_TRACKING_USERNAME"],
            os.environ.get("MLFLOW_TRACKING_PASSWORD", ""),
        )
    headers = basic_header(user)
    if not headers and os.environ.get("MLFLOW_TRACKING_TOKEN"):
        headers = {"Authorization": f"Bearer {os.environ['MLFLOW_TRACKING_TOKEN']}"}
    request = urllib.request.Request(f"{clean.rstrip('/')}{path}", headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
        answer.read(100)
