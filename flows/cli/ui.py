"""`hone ui`: the pages of MLflow and Prefect, on the stores that runs without a server write to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.console import Console

from ...recipe.errors import HoneError
from ...runtimes.telemetry import OFF
from ..engine.home import usable_settings
from ..engine.settings import Settings
from ..operate.stack.process import stop
from ..operate.stack.servers import answers
from .prefect_server import configured_url
from .signals import Ended, ended_by_signals

_SECONDS = 90.0  # that a server may take to start


def ui_command(console: Console) -> None:
    """Start what is embedded, show both addresses, and wait for Ctrl-C.

    Raises:
        HoneError: A server did not start.
    """
    settings = usable_settings()
    with ended_by_signals(), contextlib.ExitStack() as stack:
        mlflow = settings.tracking
        if not mlflow.startswith("http"):
            mlflow = stack.enter_context(_mlflow(settings))
        prefect = (configured_url() or "").removesuffix("/api")
        if not prefect:
            prefect = stack.enter_context(_prefect(settings))
        for line in (f"MLflow   {mlflow}", f"Prefect  {prefect}", "Ctrl-C ends both"):
            console.print(line, highlight=False, markup=False)
        try:
            while True:
                time.sleep(3600)
        except Ended as asked:
            if asked.number != signal.SIGINT:
                raise


@contextlib.contextmanager
def _mlflow(settings: Settings) -> Iterator[str]:
    port = _free_port()
    command = [
        sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", settings.tracking,
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    if settings.artifacts is not None:
        command += ["--default-artifact-root", settings.artifacts, "--no-serve-artifacts"]
    log = settings.logs / "mlflow-ui.log"
    url = f"http://127.0.0.1:{port}"
    with _running(command, {}, f"{url}/health", log, "MLflow's server"):
        yield url


@contextlib.contextmanager
def _prefect(settings: Settings) -> Iterator[str]:
    port = _free_port()
    command = [
        sys.executable, "-P", "-m", "prefect", "server", "start",
        "--host", "127.0.0.1", "--port", str(port), "--no-services",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    environment = {"PREFECT_UI_API_URL": f"{url}/api", **OFF}
    log = settings.logs / "prefect-ui.log"
    with _running(command, environment, f"{url}/api/health", log, "Prefect's server"):
        yield url


@contextlib.contextmanager
def _running(
    command: list[str], environment: dict[str, str], health: str, log: Path, name: str
) -> Iterator[None]:
    """A server while this context is active; it and its children end with it.

    Raises:
        HoneError: It did not start.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 (its own arguments)
            command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out,
            stderr=out, start_new_session=True, cwd=log.parent,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _SECONDS
        while not answers(health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise HoneError(f"{name} did not start", where=str(log), do="see its log")
            time.sleep(0.2)
        yield
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and the processes that it started, by their own ids."""
    with contextlib.suppress(psutil.NoSuchProcess):
        stop(psutil.Process(process.pid), signal.SIGTERM, patience=5)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
