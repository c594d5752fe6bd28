"""A Prefect server for one command, if none is configured.

Prefect can start a temporary server itself, but then also imports the whole server into the flow's
process, which takes seconds. This one is a process that imports the server while the recipe is
loaded and planned. It opens nothing before it is told to serve: most mistakes of a recipe are
found before. It uses Prefect's usual database, so `prefect server start` shows the runs afterwards.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from ...recipe.errors import AccessRefused, HoneError, ServerUnreachable
from ...recipe.machine_errors import folder_error
from ...recipe.showable import basic_header, showable, without_user
from ...runtimes.child_environment import minimal
from ...runtimes.telemetry import OFF
from ..prefect_private import TEMPORARY_SERVER, newest_schema

#: Services that are not needed without schedules. They would contend for the SQLite file.
_NOT_NEEDED = (
    "SCHEDULER", "LATE_RUNS", "FOREMAN", "PAUSE_EXPIRATIONS", "CANCELLATION_CLEANUP", "TRIGGERS",
    "EVENT_PERSISTER", "REPOSSESSOR", "DB_VACUUM",
)  # fmt: skip

#: The last line of a traceback, and how far from its end a log is searched for one (a count).
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception): .")
_LINES = 40

#: The server's process. It imports, and then waits to be told its umask and the path of its log: a
#: command that ends before leaves nothing behind.
_PROGRAM = """
import gc, os, sys
failure = None
gc.disable()  # what is imported stays: looking for garbage in it takes a tenth of the time
try:
    import uvicorn
    from prefect.server.api.server import create_app
except Exception as error:
    failure = error
gc.freeze()
gc.enable()
told = sys.stdin.buffer.read().decode()
if not told:
    os._exit(0)
umask, log = told.split(" ", 1)
os.umask(int(umask))
os.chdir(os.path.dirname(log))
written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
os.dup2(written, 1)
os.dup2(written, 2)
if failure is not None:
    raise failure
uvicorn.run(
    create_app, factory=True, fd=int(sys.argv[1]), log_level="error", lifespan="on",
    timeout_graceful_shutdown=2,
)
"""


class PrefectServer:
    """The server of this command.

    Args:
        log: A file for what it prints.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def home(self) -> Path:
        """Where its database is."""
        return _home()

    def prepare(self) -> None:
        """Start its process, which imports the server and opens nothing."""
        held = socket.socket()  # the server gets it bound, so nobody can take the port meanwhile
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api"
        command = [sys.executable, "-P", "-c", _PROGRAM, str(held.fileno())]
        environment = {
            **minimal(("PREFECT_", "PG")),
            **_absolute("PREFECT_HOME", "PREFECT_PROFILES_PATH"),
            "PYTHONSAFEPATH": "1",
            "PREFECT_UI_ENABLED": "0",
            **TEMPORARY_SERVER,
            **OFF,
            "PREFECT_API_URL": self.url,
            # Types of blocks are for forms; a server with pages registers them when it starts.
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
            **({"PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false"} if _is_current() else {}),
            **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _NOT_NEEDED},
        }
        with held:
            self._process = subprocess.Popen(  # noqa: S603 (a list of our own, no shell)
                command,
                env=environment,
                pass_fds=[held.fileno()],
                cwd=sys.prefix,  # no settings of Prefect lie there, nor modules
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the flow, which then tells the server
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def serve(self) -> None:
        """Let it open its database and answer, and point this process to it."""
        assert self._process is not None  # noqa: S101 (narrows a type)
        assert self._process.stdin is not None  # noqa: S101
        self._log.parent.mkdir(parents=True, exist_ok=True)
        umask = os.umask(0o077)
        os.umask(umask)
        with contextlib.suppress(BrokenPipeError), self._process.stdin as told:
            told.write(f"{umask} {self._log.absolute()}".encode())  # `wait` sees that it ended
        os.environ["PREFECT_API_URL"] = self.url
        if asked := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):  # of whoever asks it
            os.environ.setdefault("PREFECT_API_AUTH_STRING", asked)

    def wait(self, seconds: float = 180) -> None:
        """Wait until it answers.

        Raises:
            HoneError: It ended, or did not answer in time.
        """
        assert self._process is not None  # noqa: S101 (narrows a type)
        deadline = time.monotonic() + seconds
        while (problem := problem_with(self.url)) is not None:
            if "denies" in problem:
                raise AccessRefused(
                    f"Prefect's server, which was started for this run, {problem}",
                    where=str(self._log),
                    do="let PREFECT_API_AUTH_STRING be what its server.api.auth_string is",
                )
            if self._process.poll() is not None or time.monotonic() > deadline:
                why = self._raised()
                raise self.machine_error() or HoneError(
                    "Prefect's server did not start" + (f": {why}" if why else ""),
                    where=str(self._log),
                    do="see its log; or start one with `prefect server start` and set "
                    "PREFECT_API_URL",
                )
            time.sleep(0.05)

    def _raised(self) -> str | None:
        """The exception that its log ends with, if it has one."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        found = [line for line in lines[-_LINES:] if _EXCEPTION.match(line)]
        return showable(found[-1])[:300] if found else None

    def machine_error(self) -> HoneError | None:
        """What keeps it from writing its database or its log; None: nothing does.

        Its answer is only that it failed, and on a full disk its log says nothing either.
        """
        found = (folder_error(folder) for folder in (self.home, self._log.parent))
        return next((error for error in found if error is not None), None)

    def close(self) -> None:
        """Ask it to stop. It writes its remaining data and exits, in about 5 s."""
        if self._process is None:
            return
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.kill()  # it has opened nothing
            self._process.stdin.close()
            self._process.wait()
        else:
            self._process.terminate()
            self._process.returncode = 0  # nobody waits for it
        self._process = None


def _home() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()


def _has_profiles() -> bool:
    """Whether Prefect's settings may come from a profile."""
    named = ("PREFECT_PROFILE", "PREFECT_PROFILES_PATH")
    return any(os.environ.get(name) for name in named) or (_home() / "profiles.toml").exists()


def _is_current() -> bool:
    """Whether the server's database has the newest schema. Looking takes the server a second.

    Only for Prefect's usual SQLite file; of another database the server finds out itself.
    """
    file = _home() / "prefect.db"
    elsewhere = any(name.startswith("PREFECT_") and "_DATABASE_" in name for name in os.environ)
    if elsewhere or _has_profiles() or not file.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchall()
    except (sqlite3.Error, ValueError):
        return False
    return [revision for (revision,) in found] == [newest_schema()]


def _absolute(*names: str) -> dict[str, str]:
    """Variables that hold a path, for a process with another working folder."""
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    return {name: str(Path(path).expanduser().absolute()) for name, path in given.items()}


def _die_with_parent() -> None:
    """Make Linux end the server when the command's process ends, even by kill -9."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def problem_with(url: str) -> str | None:
    """Why a Prefect API can't be used, as a clause; None: it answers."""
    both = os.environ.get("PREFECT_API_AUTH_STRING", "")
    status = _status(url, "/health", both)
    if status == 200:  # to everybody
        status = _status(url, "/admin/version", both)
        if status in _DENIED:
            from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

            said = [str(s.value() or "") for s in (PREFECT_API_AUTH_STRING, PREFECT_API_KEY)]
            status = _status(url, "/admin/version", *said)  # with those of Prefect's profile
        return f"denies access ({status})" if status in _DENIED else None
    if status in _DENIED:
        return f"denies access ({status})"
    return "does not answer" if status is None else f"does not answer ({status})"


_DENIED = (401, 403)


def _status(url: str, path: str, user_and_password: str, key: str = "") -> int | None:
    """The HTTP status of a question; None: no answer."""
    clean, user = without_user(url)
    if user is None and ":" in user_and_password:
        name, _, password = user_and_password.partition(":")
        user = (name, password)
    headers = {"Authorization": f"Bearer {key}"} if key else basic_header(user)
    request = urllib.request.Request(f"{clean}{path}", headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return int(error.code)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return None


def require_server(url: str) -> None:
    """Make sure that a configured server answers.

    Raises:
        ServerUnreachable: It doesn't.
        AccessRefused: It wants a user and a password, or others.
    """
    problem = problem_with(url)
    if problem is not None and "denies" in problem:
        raise AccessRefused(
            f"the Prefect server {problem}",
            where=f"PREFECT_API_URL={url}",
            do="set PREFECT_API_AUTH_STRING to USER:PASSWORD, or put them into the URL",
        )
    if problem is not None:
        raise ServerUnreachable(
            f"the Prefect server {problem}",
            where=f"PREFECT_API_URL={url}",
            do="start it with `prefect server start`, or unset PREFECT_API_URL to run without one",
        )


def configured_url() -> str | None:
    """The API configured by the environment or Prefect's profile; None if there is none."""
    if os.environ.get("PREFECT_API_URL"):
        return os.environ["PREFECT_API_URL"]
    if not _has_profiles():
        return None
    from prefect.settings import PREFECT_API_URL

    value: str | None = PREFECT_API_URL.value()
    return value
