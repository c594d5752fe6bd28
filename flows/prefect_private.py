"""Every use of Prefect's private API: its purpose, and what happens if the part is gone.

`tests/flows/test_prefect_private.py` tests each use, so a new version of Prefect that moves a part
is noticed there.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from typing import Any

#: Marks a server process as temporary, as Prefect does for its own.
TEMPORARY_SERVER = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}

#: What a worker tells the process or container of a flow run in its environment.
FLOW_RUN_ID, FLOW_ENTRYPOINT = "PREFECT__FLOW_RUN_ID", "PREFECT__FLOW_ENTRYPOINT"

#: The threads that send logs and events.
_SENDERS = (
    ("prefect.logging.handlers", "APILogWorker"),
    ("prefect.events.worker", "EventsWorker"),
)
_CONSOLE = ("prefect.logging.handlers", "PrefectConsoleHandler")


def send_what_is_left(seconds: float) -> None:
    """Let Prefect send its last logs and events while its server is still there.

    Otherwise its threads try to reach a stopped server for a minute at exit. Without the part, they
    do.
    """
    for sender in _senders():
        with contextlib.suppress(Exception):
            sender.drain_all(timeout=seconds)


def _senders() -> Iterator[Any]:
    for module, name in _SENDERS:
        sender = _part(module, name)
        if hasattr(sender, "drain_all"):
            yield sender


def quiet_console() -> None:
    """Send Prefect's own log lines to its API and UI, not to the terminal.

    `PREFECT_LOGGING_LEVEL` would also remove them from the UI. Without the part, the terminal shows
    them.
    """
    console = _part(*_CONSOLE)
    if console is None:
        return
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.extra", ""):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, console):
                handler.setLevel(logging.CRITICAL + 1)


def _part(module: str, name: str) -> Any:
    """A part of Prefect; None: it does not exist."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
