"""A server that is away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ...recipe.errors import ServerUnreachable

T = TypeVar("T")


def is_away(error: BaseException) -> bool:
    """Whether an error means that the server can't be reached, rather than that it refuses."""
    import requests
    from mlflow.exceptions import MlflowException

    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for link in chain:
        if isinstance(link, requests.RequestException | ConnectionError | TimeoutError):
            return True
        if isinstance(link, MlflowException):
            code = link.get_http_status_code()
            text = str(link)
            if code >= 500 and link.error_code in ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR"):
                return True
            if "API request to" in text and "failed with exception" in text:
                return True
        if "database is locked" in str(link):
            return True
    return False


def insist(work: Callable[[], T], uri: str, wait: float, left: str) -> T:
    """Do work, and retry while the server is away; the work must be idempotent.

    Args:
        work: The work.
        uri: The server.
        wait: For how long (s).
        left: What is not done if it stays away, for the error.

    Raises:
        ServerUnreachable: It stayed away.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            return work()
        except Exception as error:
            if not is_away(error):
                raise
            if time.monotonic() > deadline:
                raise ServerUnreachable(
                    f"MLflow did not answer for {wait:.0f} s; {left}",
                    where=uri,
                    do="run again when it is back: nothing is computed twice",
                ) from error
            time.sleep(1)
