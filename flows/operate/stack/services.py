"""The services of the local stack, in the order in which they start."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

from ....ray_workers.cluster import cores
from ....recipe.errors import HoneError
from . import databases, servers
from .folder import StackFolder
from .process import Service, log_of

POOL = "hone"
NODES = 2
_OBJECT_STORE = 200 * 2**20  # bytes of each Ray node
_JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"


def services(folder: StackFolder) -> list[Service]:
    """What the stack consists of."""
    found = [
        databases.postgres(folder),
        databases.redis(folder),
        prefect(folder),
        mlflow(folder),
        ray_head(folder),
        *(ray_node(folder, number + 1) for number in range(NODES)),
        worker(folder),
    ]
    if has_listener():
        found.append(listener(folder))
    return found


def has_listener() -> bool:
    """Whether this Hone has `hone listen`."""
    name = f"{__package__.rpartition('.operate')[0]}.cli.listen"
    return importlib.util.find_spec(name) is not None


def client_environment(folder: StackFolder) -> dict[str, str]:
    """What a process needs to use the stack; secrets included."""
    secret = folder.secrets
    return {
        "PREFECT_API_URL": f"http://127.0.0.1:{folder.port('prefect')}/api",
        "PREFECT_API_AUTH_STRING": f"hone:{secret['prefect']}",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{folder.port('mlflow')}",
        "MLFLOW_TRACKING_USERNAME": "hone",
        "MLFLOW_TRACKING_PASSWORD": secret["mlflow_hone"],
        "RAY_ADDRESS": f"127.0.0.1:{folder.port('ray')}",
        "RAY_AUTH_TOKEN": secret["ray"],
        "HONE_STORE": os.environ.get("HONE_STORE") or str(folder.root.parent / "store"),
        "HONE_HOME": str(folder.root.parent),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }


def prefect(folder: StackFolder) -> Service:
    """Prefect's server: its database in PostgreSQL, its events and leases in Redis."""
    port, secret = folder.port("prefect"), folder.secrets
    redis = f"redis://:{secret['redis']}@127.0.0.1:{folder.port('redis')}"
    database = f"postgresql+asyncpg://prefect@127.0.0.1:{folder.port('postgres')}/prefect"
    return Service(
        name="prefect",
        command=[_program("prefect"), "server", "start", "--host", "127.0.0.1",
                 "--port", str(port)],
        address=f"http://127.0.0.1:{port}",
        ready=lambda: servers.answers(f"http://127.0.0.1:{port}/api/health"),
        environment={
            "PGPASSFILE": str(folder.passfile),
            "PREFECT_HOME": str(_made(folder.root / "prefect")),
            "PREFECT_API_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_API_AUTH_STRING": f"hone:{secret['prefect']}",
            "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_REDIS_MESSAGING_URL": f"{redis}/0",
            "PREFECT_SERVER_DOCKET_URL": f"{redis}/1",
            "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        },
        after=("postgres", "redis"),
        patience=15,
    )  # fmt: skip


def mlflow(folder: StackFolder) -> Service:
    """MLflow's server: metadata and users in PostgreSQL, artifacts behind it, webhooks allowed."""
    port, secret = folder.port("mlflow"), folder.secrets
    database = f"postgresql+psycopg2://mlflow@127.0.0.1:{folder.port('postgres')}"
    url = f"http://127.0.0.1:{port}"
    settings = servers.auth_settings(folder, f"{database}/mlflow_auth")
    return Service(
        name="mlflow",
        command=[
            _program("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port),
            "--app-name", "basic-auth", "--serve-artifacts", "--workers", "1",
            "--artifacts-destination", str(_made(folder.data / "artifacts")),
        ],
        address=url,
        ready=lambda: servers.answers(f"{url}/health"),
        environment={
            "PGPASSFILE": str(folder.passfile),
            "MLFLOW_BACKEND_STORE_URI": f"{database}/mlflow",
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
            "MLFLOW_AUTH_ADMIN_PASSWORD": secret["mlflow_admin"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secret["mlflow_flask"],
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": secret["webhook_key"],
            # The listener is on this machine, without TLS.
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
            # Eight processes that Hone has no use for.
            _JOBS: os.environ.get(_JOBS, "false"),
        },
        after=("postgres",),
        finish=lambda: servers.create_mlflow_user(
            url, secret["mlflow_admin"], "hone", secret["mlflow_hone"]
        ),
        patience=10,
    )  # fmt: skip


def ray_head(folder: StackFolder) -> Service:
    """The head of a Ray cluster; it runs no work."""
    port = folder.port("ray")
    options = [
        "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false",
        f"--temp-dir={folder.layout['ray_folder']}",
    ]  # fmt: skip
    return _ray(folder, "ray-head", options, f"127.0.0.1:{port}", ())


def ray_node(folder: StackFolder, number: int) -> Service:
    """A node of the cluster, with its share of the machine's cores."""
    address = f"127.0.0.1:{folder.port('ray')}"
    options = [f"--address={address}", f"--num-cpus={share(cores(), number)}"]
    # One after the other: at once, they would choose the same names for their sockets.
    before = "ray-head" if number == 1 else f"ray-node-{number - 1}"
    return _ray(folder, f"ray-node-{number}", options, address, (before,))


def share(all_cores: int, number: int) -> int:
    """Cores of a node, counted from 1: all nodes together have the machine's, each at least one."""
    return max(1, all_cores // NODES + (number <= all_cores % NODES))


def _ray(
    folder: StackFolder, name: str, options: list[str], address: str, after: tuple[str, ...]
) -> Service:
    def started() -> bool:
        with log_of(folder, name).open("rb") as log:
            return b"Ray runtime started" in log.read()

    return Service(
        name=name,
        command=[
            _program("ray"), "start", "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", f"--object-store-memory={_OBJECT_STORE}", *options,
        ],
        address=address,
        ready=started,
        environment={
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": folder.secrets["ray"],
            "RAY_worker_niceness": "0",  # else everything on the machine goes before a measurement
        },
        after=after,
        slow="The current node timed out during startup",  # after 30 s, which can't be set
    )  # fmt: skip


def worker(folder: StackFolder) -> Service:
    """A Prefect worker, which runs each flow run in a process."""
    url = f"http://127.0.0.1:{folder.port('prefect')}/api"

    def started() -> bool:
        with log_of(folder, "worker").open("rb") as log:
            return b"started!" in log.read()

    return Service(
        name="worker",
        command=[_program("prefect"), "worker", "start", "--pool", POOL, "--type", "process",
                 "--name", "stack"],
        address=url,
        ready=started,
        environment={
            **client_environment(folder),
            "PREFECT_HOME": str(_made(folder.root / "prefect")),
            "HONE_ALLOWED_PREFIXES": os.environ.get("HONE_ALLOWED_PREFIXES", ""),
            "HONE_ALLOWED_PATHS": os.environ.get("HONE_ALLOWED_PATHS", ""),
        },
        after=("prefect", "mlflow", f"ray-node-{NODES}"),
        stop_signal=signal.SIGINT,  # it ends its runs, and tells the server
        patience=30,
    )  # fmt: skip


def listener(folder: StackFolder) -> Service:
    """The service that takes the registry's events (`hone listen`)."""
    port, secret = folder.port("listener"), folder.secrets
    url = f"http://127.0.0.1:{port}"
    return Service(
        name="listener",
        command=[_program("hone"), "listen", "--host", "127.0.0.1", "--port", str(port)],
        address=url,
        ready=lambda: servers.answers(f"{url}/health"),
        environment={
            **client_environment(folder),
            "PREFECT_HOME": str(_made(folder.root / "prefect")),
            "HONE_WEBHOOK_SECRET": secret["webhook"],
        },
        after=("prefect", "mlflow"),
        finish=lambda: _register(folder, url),
    )


def _register(folder: StackFolder, url: str) -> None:
    """Make the webhook on the MLflow server, which only its administrator may.

    Raises:
        HoneError: The server does not take it.
    """
    secret = folder.secrets
    done = subprocess.run(  # noqa: S603 (a list of our own, no shell)
        [_program("hone"), "listen", "--register", "--url", url],
        env={
            **os.environ,
            **client_environment(folder),
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": secret["mlflow_admin"],
            "HONE_WEBHOOK_SECRET": secret["webhook"],
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HoneError(
            f"the webhook of the listener was not made:\n{done.stderr.strip()}",
            where="the local stack",
            do=f"see {log_of(folder, 'listener')} and {log_of(folder, 'mlflow')}",
        )


def _program(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).parent / name)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
