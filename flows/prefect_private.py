"""Every reach into parts of Prefect that it does not promise: what for, and what happens without.

`tests/flows/test_prefect_private.py` has a test for each, so that a new version of Prefect that
moved one says so there.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from typing import Any

#: Tell a server process that it is one for a short while, as Prefect tells its own.
TEMPORARY_SERVER = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}

#: The threads that send logs and events.
_SENDERS = (
    ("prefect.logging.handlers", "APILogWorker"),
    ("prefect.events.worker", "EventsWorker"),
)
_CONSOLE = ("prefect.logging.handlers", "PrefectConsoleHandler")


def send_what_is_left(seconds: float) -> None:
    """Let Prefect send its last logs and events while its server is still there.

    Otherwise its threads try to reach a stopped server for a minute at exit; so they do without
    the part.
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
    """Prefect's own lines go to its API and its interface, not to the terminal.

    `PREFECT_LOGGING_LEVEL` would take them from the interface too. Without the part, the terminal
    shows them.
    """
    console = _part(*_CONSOLE)
    if console is None:
        return
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.extra", ""):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, console):
                handler.setLevel(logging.CRITICAL + 1)


def _part(module: str, name: str) -> Any:
    """A part of Prefect; None: it is not there."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
