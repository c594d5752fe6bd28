"""`hone run`: start what is needed in parallel, run the flow, and show the outcome."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from ...ray_workers.access import require_cluster
from ...ray_workers.cluster import (
    Cluster,
    end_own_processes,
    local_capacity,
    require_capacity,
)
from ...ray_workers.importing import importing_alone
from ...recipe.errors import HoneError
from ...recipe.library_messages import telling
from ...recipe.machine_errors import machine_error
from ...recipe.schema import Recipe
from ...recipe.service_errors import service_error
from ...recipe.showable import showable, showable_data
from ...tasks.outcome import Outcome
from ...tasks.tracking.health import require_answer
from ..engine.home import private_files, require_writable
from ..engine.plan import Plan, make_plan
from ..engine.session import Session
from ..engine.settings import Settings
from ..logs import as_json as json_log
from ..logs import use_log_format
from ..prefect_private import quiet_console, send_what_is_left
from .console import LiveRows, LogLines, PlainLines
from .load import load_for_command
from .output import go_on_without_reader, leave_at_once, write_json
from .prefect_server import PrefectServer, configured_url, require_server
from .signals import ended_by_signals

EXIT_NO_CHAMPION = 3


def run_command(
    name: str, overrides: Sequence[str], as_json: bool, redo: Sequence[str] = ()
) -> int:
    """Run a recipe from the command line; returns the exit code.

    Raises:
        HoneError: Which has its own exit code.
    """
    go_on_without_reader(Settings.from_environment().logs / "output.log")
    with ended_by_signals(end_own_processes):
        return _run(name, overrides, as_json, redo)


def _run(name: str, overrides: Sequence[str], as_json: bool, redo: Sequence[str]) -> int:
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 240
    console = Console(stderr=as_json, width=width)
    observer = _observer(console)
    url = configured_url()
    with contextlib.ExitStack() as stack:
        server: PrefectServer | None = None
        if url is None:
            server = PrefectServer(Settings.from_environment().logs / "prefect-server.log")
            stack.callback(server.close)
            server.prepare()
        recipe, session = load_for_command(name, overrides, observer, redo)
        plan = _planned(recipe, session)
        stack.enter_context(_quiet())
        stack.enter_context(private_files(session.settings))
        stack.callback(_close, session.cluster)
        if plan.to_compute:
            require_writable(session.settings, *([server.home] if server is not None else []))
            if session.settings.ray_address is not None:
                require_cluster(session.settings.ray_address)
        if server is not None:
            stack.callback(server.close)  # before the cluster
            server.serve()
        elif url is not None:
            require_server(url)
        require_answer(session.settings.tracking)
        if plan.to_compute:
            session.cluster.prepare()
        asked = {"recipe": name, "overrides": [showable(o) for o in overrides], "redo": list(redo)}
        with observer:
            observer.phase("starting Prefect, Ray and MLflow")
            with _telling_of_the_machine(server):
                outcome, flow_run = _run_flow(asked, session.planned(plan), server)
        if as_json:
            write_json(json.dumps(showable_data(outcome.to_json()), indent=1))
        else:
            from .tables import show_outcome, show_places

            show_outcome(console, outcome, recipe, observer.failures.told)
            show_places(console, session.settings, outcome, url, flow_run)
    return 0 if outcome.winner is not None else EXIT_NO_CHAMPION


@contextlib.contextmanager
def _telling_of_the_machine(server: PrefectServer | None) -> Iterator[None]:
    """Say that the disk is full, and the like, where the run's own server says that it failed."""
    try:
        yield
    except Exception as error:
        failed = server is not None and service_error(error) is not None
        trouble = server.machine_error() if failed and server is not None else None
        if trouble is None:
            raise
        raise trouble from error


def _observer(console: Console) -> LogLines | LiveRows | PlainLines:
    if json_log():
        use_log_format()
        return LogLines()
    return LiveRows(console) if console.is_terminal else PlainLines(console)


def _planned(recipe: Recipe, session: Session) -> Plan:
    """What the run will do; refuses a training that this machine has no room for."""
    plan = make_plan(recipe, session)
    if plan.starts_workers and session.settings.ray_address is None:
        each = recipe.train.resources
        require_capacity(local_capacity(), recipe.train.mesh.least_workers, each.cpus, each.gpus)
    return plan


def _close(cluster: Cluster) -> None:
    cluster.close()
    if cluster.abandoned:
        leave_at_once()


def _run_flow(
    asked: dict[str, Any], session: Session, server: PrefectServer | None
) -> tuple[Outcome, str]:
    """The outcome, and the id of the flow run.

    Raises:
        HoneError: The flow failed.
    """
    preload = threading.Thread(target=_import_mlflow, daemon=True)
    preload.start()
    with importing_alone():
        from ..accelerate import accelerate
        from ..engine.dead_flow_runs import run_as_own
        from ..engine.session import use

    quiet_console()
    use_log_format()  # importing Prefect has set up its own handlers
    if server is not None:
        server.wait()
    preload.join()  # the flow would import parts of what it imports
    try:
        with use(session):
            state = run_as_own(accelerate, session.recipe.name, asked)
    finally:
        send_what_is_left(5)
    result = state.data if isinstance(state.data, Outcome) else None
    if result is None:
        found = state.result(raise_on_failure=False)
        if isinstance(found, Outcome):
            result = found
        elif isinstance(found, HoneError):
            raise found
        elif isinstance(found, BaseException):
            trouble = machine_error(found) or service_error(found)
            if trouble is not None:
                raise trouble from found
            raise HoneError(f"{type(found).__name__}: {telling(found)}") from found
        else:
            said = telling(str(state.message or "no reason was given"))
            raise HoneError(f"the flow run ended as {state.name}: {said}")
    return result, str(state.state_details.flow_run_id or "")


def _import_mlflow() -> None:
    """Import MLflow while Prefect's server starts."""
    with importing_alone():
        from ...tasks.tracking.tracker import preload

        preload()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep other libraries' output off the terminal."""
    for variable, value in {
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PYTHONWARNINGS": "ignore",
    }.items():
        os.environ.setdefault(variable, value)
    told = logging.raiseExceptions
    logging.raiseExceptions = False  # Prefect would print what it can't log to its API
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.raiseExceptions = told
