"""Where the local stack keeps things: its secrets, its ports, its logs and its data."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ....recipe.errors import HoneError, InputError

#: Where data lie if root starts the stack: the databases then run as other users, who can't reach
#: a folder in root's home.
_SYSTEM_DATA = Path("/var/lib/hone")
_PORTS = ("postgres", "redis", "prefect", "mlflow", "ray", "listener")
_SECRETS = (
    "postgres", "prefect_database", "mlflow_database", "redis", "prefect", "mlflow_admin",
    "mlflow_hone", "mlflow_flask", "ray", "webhook",
)  # fmt: skip


class StackFolder:
    """The folder of a stack.

    Args:
        root: The folder; it is created by `prepare`.

    Attributes:
        root: The folder.
        logs: What each service prints.
        records: A file for each process that was started.
        data: Databases and MLflow's artifacts.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = root / "logs"
        self.records = root / "processes"
        self.data = root / "data"
        if os.geteuid() == 0:
            self.data = _SYSTEM_DATA / f"stack-{hashlib.sha256(bytes(root)).hexdigest()[:12]}"

    def prepare(self) -> None:
        """Create what is missing of it: folders, secrets, ports.

        Raises:
            HoneError: It can't be written.
        """
        try:
            for folder in (self.root, self.logs, self.records):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.data.mkdir(parents=True, exist_ok=True)
            os.chmod(self.data, 0o711)  # noqa: S103 (the databases' users pass through it)
            self._write_secrets()
            self._write_layout()
        except OSError as error:
            raise HoneError(
                f"the stack's folder can't be written: {error.strerror}",
                where=str(error.filename or self.root),
                do="set HONE_HOME to a folder that you can write to",
            ) from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep another command from changing the stack meanwhile.

        Raises:
            InputError: Another one does.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    "another `hone stack` is at work", where=str(self.root), do="wait for its end"
                ) from None
            yield

    @property
    def exists(self) -> bool:
        return (self.root / "stack.json").exists()

    @property
    def secrets(self) -> dict[str, str]:
        """Passwords and keys by what they are for."""
        return dict(_read(self.root / "secrets.json"))

    @property
    def layout(self) -> dict[str, Any]:
        """`mark`, `ray_folder` and `ports`."""
        return dict(_read(self.root / "stack.json"))

    @property
    def mark(self) -> str:
        """In the environment of each of its processes, and of no other."""
        return str(self.layout["mark"])

    def port(self, name: str) -> int:
        return int(self.layout["ports"][name])

    def _write_secrets(self) -> None:
        known = self.secrets
        for name in _SECRETS:
            known.setdefault(name, secrets.token_urlsafe(24))
        # MLflow keeps the secrets of webhooks under this key: a Fernet key, and always the same.
        known.setdefault("webhook_key", base64.urlsafe_b64encode(os.urandom(32)).decode())
        write_private(self.root / "secrets.json", json.dumps(known, indent=1))
        write_private(
            self.passfile,
            "".join(
                f"127.0.0.1:*:*:{user}:{known[name]}\n"
                for user, name in (
                    ("postgres", "postgres"), ("prefect", "prefect_database"),
                    ("mlflow", "mlflow_database"),
                )
            ),
        )  # fmt: skip

    @property
    def passfile(self) -> Path:
        """The databases' passwords, as PGPASSFILE has them: so they are in no URL and no log."""
        return self.root / "pgpass"

    def _write_layout(self) -> None:
        layout = self.layout
        layout.setdefault("mark", secrets.token_hex(16))
        if not Path(layout.get("ray_folder", "/does/not/exist")).is_dir():
            # A short path: Ray's sockets lie in it.
            layout["ray_folder"] = tempfile.mkdtemp(prefix="hone-ray-")
        layout["ports"] = _free_ports(layout.get("ports", {}))
        write_private(self.root / "stack.json", json.dumps(layout, indent=1))

    def choose_ports_again(self, taken: set[str]) -> None:
        """New ports for services that don't run and whose port somebody else has now."""
        layout = self.layout
        kept = {name: port for name, port in layout["ports"].items() if name not in taken}
        layout["ports"] = _free_ports(kept)
        write_private(self.root / "stack.json", json.dumps(layout, indent=1))

    def owned_by(self, name: str, user: str | None) -> Path:
        """A data folder of a service that runs as another user."""
        folder = self.data / name
        folder.mkdir(exist_ok=True, mode=0o700)
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        return folder

    def delete(self) -> None:
        """Delete everything, data included."""
        if self.exists:
            shutil.rmtree(str(self.layout["ray_folder"]), ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)


def is_free(port: int) -> bool:
    """Whether a port of this machine can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_ports(known: Mapping[str, int]) -> dict[str, int]:
    """The known ports, and a free one for each other service; all different."""
    with contextlib.ExitStack() as held:
        found = dict(known)
        for name in _PORTS:
            if name not in found:
                probe = held.enter_context(socket.socket())
                probe.bind(("127.0.0.1", 0))
                found[name] = int(probe.getsockname()[1])
        return found


def write_private(path: Path, text: str, owner: str | None = None) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        if owner is not None:
            account = pwd.getpwnam(owner)
            os.fchown(file.fileno(), account.pw_uid, account.pw_gid)
    aside.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
