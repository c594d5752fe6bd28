"""The server of one command does what a run needs when it starts, and nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
import stat
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from http_server import Handler, serving
from prefect_hone.flows.cli import prefect_server
from prefect_hone.flows.cli.prefect_server import PrefectServer, configured_url
from prefect_hone.flows.cli.run import _telling_of_the_machine
from prefect_hone.recipe.errors import AccessRefused, HoneError, StoreError

MIGRATE = "PREFECT_SERVER_DATABASE_MIGRATE_ON_START"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("PREFECT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_API_URL", "kept for after the test")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


def started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a server that would be started."""
    found: list[dict[str, str]] = []

    def popen(command: list[str], **options: Any) -> SimpleNamespace:
        found.append(options["env"])
        return SimpleNamespace(terminate=lambda: None, stdin=None)

    monkeypatch.setattr(prefect_server.subprocess, "Popen", popen)
    server = PrefectServer(folder / "logs" / "server.log")
    server.prepare()
    server.close()
    (environment,) = found
    return environment


def revise(database: Path, revision: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_a_database_with_the_newest_schema_is_not_looked_at_again(
    home: Path, databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MIGRATE not in started(home, monkeypatch), "there is no database"
    shutil.copyfile(databases / "prefect.db", home / "prefect.db")
    environment = started(home, monkeypatch)
    assert environment[MIGRATE] == "false"
    assert environment["PREFECT_SERVER_REGISTER_BLOCKS_ON_START"] == "false"
    monkeypatch.chdir(home.parent)
    monkeypatch.setenv("PREFECT_HOME", home.name)
    assert started(home, monkeypatch)[MIGRATE] == "false", "a relative path"


@pytest.mark.parametrize("content", ["an older schema", "no schema", "no database"])
def test_any_other_database_is_brought_up_to_date(
    home: Path, databases: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    file = home / "prefect.db"
    if content == "an older schema":
        shutil.copyfile(databases / "prefect.db", file)
        revise(file, "f416ea180ae1")
    elif content == "no schema":
        sqlite3.connect(file).close()
    else:
        file.write_bytes(b"no database at all" * 100)
    assert MIGRATE not in started(home, monkeypatch)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_API_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////elsewhere.db"),
        ("PREFECT_SERVER_DATABASE_NAME", "other"),
        ("PREFECT_PROFILE", "ephemeral"),
        ("PREFECT_PROFILES_PATH", "profiles.toml"),
    ],
)
def test_a_database_that_may_be_elsewhere_is_left_to_the_server(
    home: Path, databases: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    shutil.copyfile(databases / "prefect.db", home / "prefect.db")
    monkeypatch.setenv(name, value)
    assert started(home, monkeypatch).get(MIGRATE) is None


def test_without_a_profile_only_the_environment_names_an_api(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured_url() == "kept for after the test"
    monkeypatch.delenv("PREFECT_API_URL")
    assert configured_url() is None


@pytest.fixture
def stubs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Modules that stand for uvicorn and Prefect's server in the process."""
    folder = home / "stubs"
    place = folder
    for name in ("prefect", "server", "api"):
        place /= name
        place.mkdir(parents=True)
        (place / "__init__.py").touch()
    (place / "server.py").write_text("def create_app(): ...\n")
    (folder / "uvicorn.py").write_text(
        "import os\n"
        "def run(app, **options):\n"
        "    open('database', 'w').close()\n"
        "    print(app.__name__, options['factory'], os.fstat(options['fd']).st_mode, flush=True)\n"
    )
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n{prefect_server._PROGRAM}"
    monkeypatch.setattr(prefect_server, "_PROGRAM", program)
    return folder


def test_it_opens_nothing_before_it_is_told_to_serve(home: Path, stubs: Path) -> None:
    log = home / "home" / "logs" / "server.log"
    server = PrefectServer(log)
    server.prepare()
    process = server._process
    assert process is not None
    time.sleep(0.2)
    assert process.poll() is None, "it waits"
    server.close()
    assert process.returncode is not None
    assert not log.parent.exists()
    assert os.environ["PREFECT_API_URL"] == "kept for after the test"


def test_it_serves_in_the_folder_of_its_log_with_the_umask_of_now(home: Path, stubs: Path) -> None:
    log = home / "home" / "logs" / "server.log"
    server = PrefectServer(log)
    server.prepare()
    process = server._process
    assert process is not None
    before = os.umask(0o077)
    try:
        server.serve()
    finally:
        os.umask(before)
    assert process.wait(30) == 0
    app, factory, mode = log.read_text().split()
    assert (app, factory) == ("create_app", "True")
    assert stat.S_ISSOCK(int(mode)), "the port that was taken for it"
    assert os.environ["PREFECT_API_URL"] == server.url
    assert stat.S_IMODE((log.parent / "database").stat().st_mode) == 0o600


def test_what_can_not_be_imported_is_in_the_log(home: Path, stubs: Path) -> None:
    (stubs / "uvicorn.py").write_text("raise ImportError('no uvicorn here')\n")
    log = home / "home" / "logs" / "server.log"
    server = PrefectServer(log)
    server.prepare()
    server.serve()
    said = "Prefect's server did not start: ImportError: no uvicorn here"
    with pytest.raises(HoneError, match=said) as caught:
        server.wait(30)
    assert caught.value.where == str(log)
    server.close()


def test_a_full_disk_is_told_where_it_only_says_that_it_failed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is a 500, and its log lies on the same disk."""
    full = StoreError("no space or no inodes are left on the disk")
    monkeypatch.setattr(
        prefect_server, "folder_error", lambda folder: full if folder == home else None
    )
    server = PrefectServer(home / "home" / "logs" / "server.log")
    answer = httpx.Response(500, request=httpx.Request("POST", "http://127.0.0.1/api"))
    with pytest.raises(StoreError, match="no inodes"), _telling_of_the_machine(server):
        answer.raise_for_status()
    with pytest.raises(ZeroDivisionError), _telling_of_the_machine(server):
        raise ZeroDivisionError
    with pytest.raises(httpx.HTTPStatusError), _telling_of_the_machine(None):
        answer.raise_for_status()


def test_it_ends_with_a_command_that_ends_before(home: Path, stubs: Path) -> None:
    server = PrefectServer(home / "home" / "logs" / "server.log")
    server.prepare()
    process = server._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()  # as the system does for a process that is killed
    assert process.wait(30) == 0
    assert not (home / "home").exists()


def test_a_server_that_asks_for_credentials_is_asked_with_them_or_says_so_at_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the settings of a team's server are in everybody's environment."""

    class Closed(Handler):
        def do_GET(self) -> None:
            right = self.headers["Authorization"] == "Basic aG9uZTpyaWdodA=="  # hone:right
            self.send_response(200 if right else 401)
            self.end_headers()

    alive = SimpleNamespace(poll=lambda: None, terminate=lambda: None, stdin=io.BytesIO())
    monkeypatch.setattr(prefect_server.subprocess, "Popen", lambda *_, **__: alive)
    with serving(Closed) as port:
        server = PrefectServer(tmp_path / "logs" / "server.log")
        server.prepare()
        server.url = f"http://127.0.0.1:{port}/api"
        with pytest.raises(AccessRefused, match=r"started for this run, denies access \(401\)"):
            server.wait()
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "")
        monkeypatch.delenv("PREFECT_API_AUTH_STRING")
        monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "hone:right")
        server.serve()
        server.wait()
    assert os.environ["PREFECT_API_AUTH_STRING"] == "hone:right"
