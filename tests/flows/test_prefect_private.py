"""What Hone takes from Prefect without a promise is there, and Hone goes on where it is not."""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
import sqlite3
import sys
from pathlib import Path

import prefect_hone
import pytest
from prefect_hone.flows import prefect_private

PACKAGE = Path(prefect_hone.__file__).parent


def test_nothing_else_reaches_into_prefect() -> None:
    reaches = re.compile(r"prefect(\.\w+)*\._|PREFECT__|drain_all|PrefectConsoleHandler")
    found = [
        str(path.relative_to(PACKAGE))
        for path in (PACKAGE / "flows").rglob("*.py")
        if reaches.search(path.read_text())
    ]
    assert found == ["flows/prefect_private.py"]


def test_where_prefect_reads_its_settings_can_be_changed() -> None:
    from prefect.settings import sources

    assert sources.__name__ == prefect_private._SOURCES
    assert callable(sources._read_toml_file)
    assert callable(sources.FilteredDotEnvSettingsSource._read_env_files)
    assert callable(sources.dotenv.dotenv_values)


def test_both_senders_are_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    senders = list(prefect_private._senders())
    assert [sender.__name__ for sender in senders] == ["APILogWorker", "EventsWorker"]
    drained = []
    for sender in senders:
        assert "timeout" in inspect.signature(sender.drain_all).parameters
        monkeypatch.setattr(sender, "drain_all", lambda timeout: drained.append(timeout))
    prefect_private.send_what_is_left(0.5)
    assert drained == [0.5, 0.5]


def test_the_console_handler_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.logging.handlers import PrefectConsoleHandler

    ours, other = PrefectConsoleHandler(), logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger("prefect"), "handlers", [ours, other])
    prefect_private.quiet_console()
    assert (ours.level, other.level) == (logging.CRITICAL + 1, logging.NOTSET)


def test_the_newest_schema_is_that_of_a_new_database(
    databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(sqlite3.connect(databases / "prefect.db")) as database:
        found = database.execute("SELECT version_num FROM alembic_version").fetchall()
    assert found == [(prefect_private.newest_schema(),)]
    monkeypatch.setattr(prefect_private.importlib.util, "find_spec", lambda _: None)
    assert prefect_private.newest_schema() is None, "then the server looks"


def test_the_console_handler_is_replaced_unless_it_is_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect.logging.handlers import PrefectConsoleHandler

    ours, loud, quiet = logging.StreamHandler(), PrefectConsoleHandler(), PrefectConsoleHandler()
    quiet.setLevel(logging.CRITICAL + 1)
    monkeypatch.setattr(logging.getLogger("prefect"), "handlers", [loud])
    monkeypatch.setattr(logging.getLogger("prefect.extra"), "handlers", [quiet])
    prefect_private.replace_console(ours)
    assert logging.getLogger("prefect").handlers == [ours]
    assert logging.getLogger("prefect.extra").handlers == []


def test_prefects_own_loggers_have_the_console_handler() -> None:
    """Else its lines would come to the terminal by another way."""
    from prefect.logging.handlers import PrefectConsoleHandler
    from prefect.settings import PREFECT_LOGGING_LEVEL  # importing Prefect sets logging up

    assert PREFECT_LOGGING_LEVEL
    from prefect.logging.configuration import DEFAULT_LOGGING_SETTINGS_PATH, load_logging_config

    handlers = load_logging_config(DEFAULT_LOGGING_SETTINGS_PATH)["handlers"]
    assert f"prefect.logging.handlers.{PrefectConsoleHandler.__name__}" in {
        handler["class"] for handler in handlers.values()
    }


def test_a_server_looks_at_what_it_is_told() -> None:
    from prefect.server.api import server

    source = inspect.getsource(server.create_app)
    assert all(name in source for name in prefect_private.TEMPORARY_SERVER)


def test_a_prefect_without_these_parts_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("prefect.logging.handlers", "prefect.events.worker"):
        monkeypatch.setitem(sys.modules, module, None)
    assert list(prefect_private._senders()) == []
    prefect_private.send_what_is_left(0.5)
    prefect_private.quiet_console()


def test_a_worker_tells_a_flow_run_by_these_variables() -> None:
    import prefect.engine
    import prefect.workers.base

    told = inspect.getsource(prefect.workers.base)
    read = inspect.getsource(prefect.engine)
    assert prefect_private.FLOW_RUN_ID in told + read
    import prefect.runner.runner as runner

    sources = told + read + inspect.getsource(runner)
    assert prefect_private.FLOW_ENTRYPOINT in sources
