"""Every use of Prefect's private API: its purpose, and what happens if the part is gone.

`tests/flows/test_prefect_private.py` tests each use, so a new version of Prefect that moves a part
is noticed there.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import logging
import re
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
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
    for _, name in _SENDERS:
        logging.getLogger(name).setLevel(logging.ERROR)  # else it tells the user what it waits for
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
    for _, handler in _consoles():
        handler.setLevel(logging.CRITICAL + 1)


def replace_console(handler: logging.Handler) -> None:
    """Let a handler write what Prefect's own console handlers would.

    Without the part, both do.
    """
    for logger, console in list(_consoles()):
        logger.removeHandler(console)
        if console.level <= logging.CRITICAL:  # else it was made quiet
            logger.addHandler(handler)


def _consoles() -> Iterator[tuple[logging.Logger, logging.Handler]]:
    console = _part(*_CONSOLE)
    if console is None:
        return
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.extra", ""):
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            if isinstance(handler, console):
                yield logger, handler


def newest_schema() -> str | None:
    """The revision of an SQLite database that this Prefect's server would leave as it is.

    Read from the names in its migrations, without importing them or Alembic. None: there are none
    where they were, and the server has to look by itself.
    """
    spec = importlib.util.find_spec("prefect")
    folders = spec.submodule_search_locations if spec is not None else None
    revisions, before = set(), set()
    for folder in folders or ():
        for file in Path(folder).glob("server/database/_migrations/versions/sqlite/*.py"):
            text = file.read_text(encoding="utf-8")
            revisions.update(_names(r"^revision\b[^=\n]*=(.+)$", text))
            before.update(_names(r"^down_revision\b[^=\n]*=(.+)$", text))
    newest = revisions - before
    return newest.pop() if len(newest) == 1 else None


def _names(line: str, text: str) -> list[str]:
    """The quoted names on a line of a migration."""
    found = re.search(line, text, re.MULTILINE)
    return re.findall(r"""["'](\w+)["']""", found.group(1)) if found else []


_SOURCES = "prefect.settings.sources"


def ignore_the_current_folder() -> None:
    """Let no file of the current folder set anything of Prefect in this process.

    Prefect reads `prefect.toml`, `pyproject.toml` and `.env` there. Among its settings are the
    server, which gets the user's key, and a configuration of logging, which names functions to
    call. A folder with a recipe may be anybody's. The environment and profiles still count. To be
    called before Prefect is imported, without importing it. Without the part, it reads them.
    """
    if _SOURCES in sys.modules:
        _read_no_files(sys.modules[_SOURCES])
    elif not any(isinstance(finder, _SettingsFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SettingsFinder())


class _SettingsFinder(importlib.abc.MetaPathFinder):
    """Changes the module that reads Prefect's settings as soon as it is imported."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != _SOURCES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            execute = loader.exec_module

            def then(module: ModuleType) -> None:
                execute(module)
                _read_no_files(module)

            loader.exec_module = then
        return spec


def _read_no_files(sources: Any) -> None:
    read = getattr(sources, "_read_toml_file", None)
    if read is None or not hasattr(sources, "FilteredDotEnvSettingsSource"):
        return

    def read_elsewhere(path: Path) -> dict[str, Any]:
        found: dict[str, Any] = read(path) if Path(path).is_absolute() else {}
        return found

    sources._read_toml_file = read_elsewhere
    sources.FilteredDotEnvSettingsSource._read_env_files = lambda _: {}
    sources.dotenv = SimpleNamespace(dotenv_values=lambda *_, **__: {})


def _part(module: str, name: str) -> Any:
    """A part of Prefect; None: it does not exist."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
