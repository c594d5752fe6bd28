"""PostgreSQL and Redis of the local stack: the system's own, never run by root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from ....recipe.errors import HoneError, InputError
from .folder import StackFolder, write_private
from .process import Service

#: Databases, and the role that owns each.
_DATABASES = {"prefect": "prefect", "mlflow": "mlflow", "mlflow_auth": "mlflow"}


def require() -> None:
    """Make sure that the programs and packages of the stack are installed.

    Raises:
        InputError: With the command that installs what is missing.
    """
    programs = {"postgresql": postgres_programs(), "redis-server": shutil.which("redis-server")}
    missing = [package for package, found in programs.items() if found is None]
    if missing:
        raise InputError(
            f"not installed here: {' and '.join(missing)}",
            where="the local stack",
            do=f"sudo apt-get install --no-install-recommends {' '.join(missing)}",
        )
    modules = {"psycopg2": "psycopg2-binary", "prefect_redis": "prefect-redis",
               "flask_wtf": "Flask-WTF"}  # fmt: skip
    lacking = [p for module, p in modules.items() if importlib.util.find_spec(module) is None]
    if lacking:
        raise InputError(
            f"Python packages are missing: {', '.join(lacking)}",
            where="the local stack",
            do="pip install 'prefect-hone[stack]'",
        )


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs, the newest; Debian has them on no path."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    on_path = shutil.which("postgres")
    return None if on_path is None else Path(on_path).resolve().parent


def user_for(*names: str) -> str | None:
    """The first of these accounts that exists, if root starts the stack; else None: this user.

    Raises:
        InputError: There is none of them.
    """
    if os.geteuid() != 0:
        return None
    known = {account.pw_name for account in pwd.getpwall()}
    for name in (*names, "nobody"):
        if name in known:
            return name
    raise InputError(
        "a database must not run as root, and there is no other account for it",
        where="the local stack",
        do=f"create one: useradd --system {names[0]}",
    )


def postgres(folder: StackFolder) -> Service:
    """PostgreSQL, on loopback only, with a password for each role."""
    programs, user, port = postgres_programs(), user_for("postgres"), folder.port("postgres")
    programs = programs or Path("/usr/lib/postgresql/bin")  # `require` refused to start without
    data = folder.data / "postgres" / "data"
    return Service(
        name="postgres",
        command=[
            str(programs / "postgres"), "-D", str(data), "-p", str(port),
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
            "-c", "max_connections=200",
        ],
        address=f"127.0.0.1:{port}",
        ready=lambda: _can_connect(folder),
        user=user,
        before=lambda: _initialize(folder, programs, data, user),
        finish=lambda: _create_databases(folder),
        stop_signal=signal.SIGINT,  # its "fast shutdown": connections end, nothing is lost
        patience=30,
    )  # fmt: skip


def _initialize(folder: StackFolder, programs: Path, data: Path, user: str | None) -> None:
    """Create the database cluster aside, then rename it: a killed `up` leaves no half of one."""
    if data.exists():
        return
    own = folder.owned_by("postgres", user)
    aside, password = own / "new", own / "password"
    shutil.rmtree(aside, ignore_errors=True)
    write_private(password, folder.secrets["postgres"], user)
    as_user: dict[str, Any] = {}
    if user is not None:
        as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}
    done = subprocess.run(  # noqa: S603 (a list of our own, no shell)
        [str(programs / "initdb"), "-D", str(aside), "-U", "postgres", "--auth=scram-sha-256",
         f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8"],
        cwd="/", capture_output=True, text=True, check=False, **as_user,
    )  # fmt: skip
    password.unlink()
    if done.returncode:
        raise HoneError(f"PostgreSQL's initdb failed: {done.stderr.strip()}", where=str(aside))
    aside.rename(data)


def _connection(folder: StackFolder) -> Any:
    import psycopg2

    return psycopg2.connect(
        host="127.0.0.1", port=folder.port("postgres"), user="postgres", dbname="postgres",
        password=folder.secrets["postgres"], connect_timeout=3,
    )  # fmt: skip


def _can_connect(folder: StackFolder) -> bool:
    import psycopg2

    try:
        _connection(folder).close()
    except psycopg2.OperationalError:
        return False
    return True


def _create_databases(folder: StackFolder) -> None:
    """A database and a role for each server; what is there already stays."""
    from psycopg2 import sql

    secret = folder.secrets
    connection = _connection(folder)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            for role in sorted(set(_DATABASES.values())):
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
                verb = "ALTER" if cursor.fetchone() else "CREATE"
                statement = sql.SQL(f"{verb} ROLE {{}} LOGIN PASSWORD {{}}")
                password = sql.Literal(secret[f"{role}_database"])
                cursor.execute(statement.format(sql.Identifier(role), password))
            for name, role in _DATABASES.items():
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    statement = sql.SQL("CREATE DATABASE {} OWNER {}")
                    cursor.execute(statement.format(sql.Identifier(name), sql.Identifier(role)))
    finally:
        connection.close()


def redis(folder: StackFolder) -> Service:
    """Redis, on loopback only; its password is in a file, because its command line is public."""
    user, port = user_for("redis"), folder.port("redis")
    settings = folder.data / "redis" / "redis.conf"

    def configure() -> None:
        own = folder.owned_by("redis", user)
        lines = (
            f"port {port}", "bind 127.0.0.1", "protected-mode yes", f"dir {own}",
            "appendonly yes", 'save ""', f"requirepass {folder.secrets['redis']}",
        )  # fmt: skip
        write_private(settings, "\n".join(lines) + "\n", user)

    return Service(
        name="redis",
        command=[shutil.which("redis-server") or "redis-server", str(settings)],
        address=f"127.0.0.1:{port}",
        ready=lambda: _pong(folder),
        user=user,
        before=configure,
    )


def _pong(folder: StackFolder) -> bool:
    from redis import Redis
    from redis.exceptions import RedisError

    client = Redis(
        port=folder.port("redis"), password=folder.secrets["redis"], socket_connect_timeout=2
    )
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False
    finally:
        client.close()
