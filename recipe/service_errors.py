"""What a server refused or could not do, in one sentence, whichever client noticed it.

Prefect's and MLflow's clients raise errors of their own, of httpx and of requests, with whole
answers in them. They are told apart by where their class is defined, so nothing is imported for it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .errors import AccessRefused, HoneError, ServerUnreachable
from .library_messages import telling
from .showable import showable

_OF = {"prefect": "Prefect", "httpx": "Prefect", "httpcore": "Prefect", "mlflow": "MLflow",
       "requests": "the server", "urllib3": "the server"}  # fmt: skip
_VARIABLE = {"Prefect": "PREFECT_API_URL", "MLflow": "MLFLOW_TRACKING_URI"}
_DENIED, _TOO_LARGE, _BUSY = (401, 403), (413, 422), 429
_STATUS = re.compile(r"\b(?:error|status|code)[^\d]{0,20}'?([45]\d\d)\b")


def service_error(error: BaseException) -> HoneError | None:
    """The sentence for an error of a client of Prefect or MLflow; None: it is none of these."""
    seen: set[int] = set()
    ahead: BaseException | None = error
    while ahead is not None and id(ahead) not in seen:
        seen.add(id(ahead))
        server = _OF.get(type(ahead).__module__.partition(".")[0])
        if server is not None and not isinstance(ahead, HoneError):
            return _told(ahead, server)
        ahead = ahead.__cause__ or ahead.__context__
    return None


def _told(error: BaseException, server: str) -> HoneError:
    status = _status(error)
    where = _VARIABLE.get(server)
    if status is None and (_is_silence(error) or "Failed to reach API" in str(error)):
        return ServerUnreachable(
            f"{server} does not answer ({type(error).__name__})",
            where=where,
            do="check that it runs, and that this machine reaches it",
        )
    if status in _DENIED:
        return AccessRefused(
            f"{server} denies access ({status})",
            where=where,
            do="check the user and password, or the key, that this machine gives it",
        )
    if status is not None and (status >= 500 or status == _BUSY):
        return ServerUnreachable(
            f"{server} could not answer ({status})", where=where, do="look at its log; try again"
        )
    said = _detail(error) or telling(error)
    refused = f"{server} refuses what it is asked for" + (f" ({status})" if status else "")
    do = (
        "give the recipe as a file, and large arguments as a path" if status in _TOO_LARGE else None
    )
    return HoneError(f"{refused}: {said}", where=where, do=do)


def _status(error: BaseException) -> int | None:
    """The HTTP status of the answer that an error has, or speaks of."""
    answer: Any = getattr(error, "response", None)
    found = getattr(answer, "status_code", None)
    if isinstance(found, int):
        return found
    match = _STATUS.search(str(error)[:500])
    return int(match[1]) if match else None


def _is_silence(error: BaseException) -> bool:
    name = type(error).__name__
    return name.endswith(("ConnectError", "ConnectionError", "Timeout", "TimeoutError")) or any(
        word in name for word in ("Connect", "ReadError", "WriteError", "RemoteProtocol")
    )


def _detail(error: BaseException) -> str:
    """What the server's answer says, as one line; empty if it says nothing."""
    answer: Any = getattr(error, "response", None)
    try:
        said: Any = json.loads(str(getattr(answer, "text", ""))[:1_000_000])
    except ValueError:
        return ""
    for key in ("detail", "exception_detail", "message", "exception_message"):
        while isinstance(said, dict) and key in said:
            said = said[key]
        if isinstance(said, list) and said:
            said = said[0]
        if isinstance(said, dict) and isinstance(said.get("msg"), str):
            said = said["msg"]
    return " ".join(showable(said).split())[:200] if isinstance(said, str) else ""
