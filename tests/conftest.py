"""What tests share: a project to run, an environment of its own, and processes that are ended."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import psutil
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "support"))
import long_tests  # noqa: E402

BIN = Path(sys.executable).parent
#: Environments of targets are made once a checkout, in a minute each.
os.environ.setdefault("HONE_ENVIRONMENTS", str(BIN.parent / "environments"))
#: A thread that outlives its cluster must fail, not start or join another.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
#: For the small models of the tests, threads cost more than they give: they spin while they wait.
#: What a test starts as a user would (`Hone`) chooses its own threads.
_THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
for _name, _value in _THREADS.items():
    os.environ.setdefault(_name, _value)


# Else each process compiles all of Hone again, and pytest rewrites each assertion again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that starts the tests in the background has SIGINT ignored, and what they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: What is imported stays: looking for garbage in it takes a tenth of the time.
gc.set_threshold(100_000, 50, 100)


#: On a machine with much other work a start of Ray now and then does not reach its first process:
#: the cause is not known, and nothing of a run has begun by then.
_NO_RAY = ("stopped answering while Ray was starting", "Ray did not start within")


#: The files that take longest, first: begun late, one of them would run alone at the end.
_LONGEST = (
    "journeys/test_stack.py",
    "journeys/test_faults.py",
    "journeys/test_in_the_browser.py",
    "journeys/test_servers.py",
    "ray_workers/training/test_faults.py",
    "tasks/compile/test_targets.py",
    "journeys/test_no_training.py",
    "journeys/test_digits.py",
    "journeys/test_listen.py",
    "conformance/test_targets.py",
    "tasks/compress/test_passes.py",
    "journeys/test_charlm.py",
    "conformance/test_split_formats.py",
    "ray_workers/data/test_ray_datasets.py",
    "ray_workers/model/test_incoming.py",
    "tasks/test_keys.py",
    "tasks/tracking/test_tracker.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--measure-long", action="store_true",
        help="write tests/long_tests.txt anew from these tests, which must run in one process",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--measure-long"):
        config.pluginmanager.register(long_tests.Measure())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {HERE / name: place for place, name in enumerate(_LONGEST)}
    missing = [str(path) for path in places if not path.exists()]
    assert not missing, f"tests/conftest.py lists files that are gone: {missing}"
    items.sort(key=lambda item: places.get(item.path, len(places)))
    long = long_tests.listed()
    for item in items:
        if item.nodeid in long or long_tests.function(item.nodeid) in long:
            item.add_marker("long")
        if item.get_closest_marker("nightly"):
            item.add_marker("slow")


def pytest_unconfigure() -> None:
    gc.freeze()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the test project: a recipe, its model and its data."""
    return _copied_project(tmp_path)


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for all tests of a file, which don't change it."""
    return _copied_project(tmp_path_factory.mktemp("shared"))


def _copied_project(place: Path) -> Path:
    folder = place / "project"
    shutil.copytree(HERE / "project", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def end(processes: list[psutil.Process], wait: float = 10) -> None:
    """End processes by their own ids."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=wait)


class Hone:
    """The command line in an environment of its own.

    Attributes:
        home: Its HONE_HOME.
        environment: What commands are run with.

    Args:
        folder: For all that it writes.
        databases: Where empty databases lie to begin with; None: it makes them itself.
    """

    def __init__(self, folder: Path, databases: Path | None = None) -> None:
        self.home = folder / "home"
        if databases is not None:
            for name, place in (("mlflow.db", self.home), ("prefect.db", folder / "prefect")):
                place.mkdir()
                shutil.copyfile(databases / name, place / name)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))},
            "HONE_HOME": str(self.home),
            "PREFECT_HOME": str(folder / "prefect"),
            "COLUMNS": "240",  # readline sets 80 for processes that pytest-xdist starts
        }
        for name in ("RAY_ADDRESS", "HONE_STORE", "HONE_ALLOWED_PREFIXES", *_THREADS):
            self.environment.pop(name, None)
        self._started: list[subprocess.Popen[str]] = []
        self._seen: dict[int, psutil.Process] = {}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `hone ARGUMENTS` and don't wait."""
        process = subprocess.Popen(
            [str(BIN / "hone"), *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(
        self, *arguments: str, timeout: float = 600, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `hone ARGUMENTS` to its end; once more if Ray did not come up."""
        done = self._run(arguments, timeout, environment)
        if any(said in done.stdout + done.stderr for said in _NO_RAY):
            done = self._run(arguments, timeout, environment)
        return done

    def _run(
        self, arguments: tuple[str, ...], timeout: float, environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            end([*descendants(process.pid), psutil.Process(process.pid)])
            out, err = process.communicate()
            pytest.fail(f"hone {' '.join(arguments)} took too long\n{out}\n{err}")
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def answer(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What `hone ARGUMENTS` answers, in this process: without half a second of imports.

        For what is answered before anything is started. An exception that no command expects is
        raised here, where a process would print its traceback.
        """
        from prefect_hone.flows.cli.app import app
        from typer.testing import CliRunner

        with mock.patch.dict(os.environ, {**self.environment, **environment}, clear=True):
            said = CliRunner().invoke(app, list(arguments))
        if said.exception is not None and not isinstance(said.exception, SystemExit):
            raise said.exception
        return subprocess.CompletedProcess(arguments, said.exit_code, said.stdout, said.stderr)

    def json(self, *arguments: str, code: int = 0, **environment: str) -> dict:
        """Run a command with `--json` and read its document."""
        done = self.run(*arguments, "--json", **environment)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def wait_for(self, process: subprocess.Popen[str], text: str, timeout: float = 300) -> str:
        """Read a process's lines until one has a text in it; give what was read."""
        read = []
        deadline = time.monotonic() + timeout
        assert process.stdout is not None
        while time.monotonic() < deadline:
            line = process.stdout.readline()
            if not line:
                break
            read.append(line)
            if text in line:
                self.remember(process)
                return "".join(read)
        rest = process.stderr.read() if process.poll() is not None and process.stderr else ""
        pytest.fail(f"'{text}' did not come\n{''.join(read)}\n{rest}")

    def remember(self, process: subprocess.Popen[str]) -> list[psutil.Process]:
        """Note a process's descendants, to see later that they ended."""
        found = descendants(process.pid)
        self._seen.update({child.pid: child for child in found})
        return found

    def alive(self) -> list[psutil.Process]:
        """Noted descendants that still run."""
        return [
            child
            for child in self._seen.values()
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                self.remember(process)
                process.send_signal(signal.SIGKILL)
                process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        end(list(self._seen.values()))

    @property
    def tracking(self) -> str:
        return f"sqlite:///{self.home}/mlflow.db"


@pytest.fixture(scope="session")
def databases() -> Path:
    """Empty databases of MLflow and Prefect; making them takes longer than most steps of a run.

    Made once a checkout and set of versions. The runs of `shared_hone` make their own.
    """
    versions = [f"{name}-{version(name)}" for name in ("mlflow", "prefect")]
    made = BIN.parent / "databases" / "-".join(versions)
    made.parent.mkdir(exist_ok=True)
    with made.with_name(f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            aside = made.with_name(f"{made.name}.aside")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            quiet = {**os.environ, "PREFECT_HOME": str(aside), "DO_NOT_TRACK": "1"}
            for command in (
                [str(BIN / "prefect"), "server", "database", "upgrade", "-y"],
                [sys.executable, "-c",
                 "from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore\n"
                 f"SqlAlchemyStore('sqlite:///{aside}/mlflow.db', '{aside}/artifacts')"],
            ):  # fmt: skip
                subprocess.run(command, env=quiet, check=True, capture_output=True)
            aside.rename(made)
    return made


@pytest.fixture
def hone(tmp_path: Path, databases: Path) -> Iterator[Hone]:
    command = Hone(tmp_path, databases)
    yield command
    command.close()


@pytest.fixture(scope="module")
def shared_hone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hone]:
    """One environment for the tests of a file: what one run kept, the next one finds.

    Its databases are made by the first command, as a user's are.
    """
    command = Hone(tmp_path_factory.mktemp("shared"))
    yield command
    command.close()


class Server:
    """A server process that a test starts and ends.

    Args:
        command: Its arguments.
        url: What must answer before it counts as started.
        log: A file for its output.
    """

    def __init__(self, command: list[str], url: str, log: Path, env: dict[str, str]) -> None:
        self.url = url
        self._command = command
        self.log = log
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 90) -> None:
        import urllib.request

        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=2) as said:
                if said.status == 200:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.stop()
        pytest.fail(f"the server did not start\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        if self._process is not None:
            children = descendants(self._process.pid)
            self._process.kill()
            self._process.wait()
            end(children)
            self._process = None


@pytest.fixture(scope="session")
def server_kind() -> type[Server]:
    """For modules that share servers of their own."""
    return Server


@pytest.fixture
def mlflow_server(hone, databases: Path, tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    shutil.copyfile(databases / "mlflow.db", tmp_path / "server.db")
    server = Server(
        [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
            "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--workers", "1",
            "--artifacts-destination", str(tmp_path / "artifacts"),
        ],
        f"http://127.0.0.1:{port}/health",
        tmp_path / "mlflow.log",
        {**hone.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip
    server.start()
    yield server
    server.stop()


@pytest.fixture
def prefect_server(hone, tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    server = Server(
        [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        f"http://127.0.0.1:{port}/api/health",
        tmp_path / "prefect.log",
        {
            **hone.environment,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        },
    )
    server.start()
    yield server
    server.stop()
