"""Isolated environments, for runtimes whose packages conflict with Hone's.

A file `NAME.txt` beside this one has the exact versions. The environment is created at its first
use, under `HONE_HOME/environments`, and reused. This package is linked into it, and imports there
only what the environment has.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..child_environment import minimal
from ..errors import RuntimeFailed
from ..home import hone_home

_HERE = Path(__file__).parent
#: `prefect_hone`; where the wheel `hone-runtimes` alone is installed, only `runtimes` is in it.
_PACKAGE = _HERE.parent.parent
#: Variables that are for this Python, not for another one.
_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")


_LONGEST_WAIT = 1200.0  # s, for another process that creates an environment


class EnvironmentFailed(RuntimeFailed):
    """An environment can't be created."""


@dataclass(frozen=True)
class Environment:
    """A Python environment.

    Attributes:
        name: Of the requirements file.
        folder: Where it is, or will be.
    """

    name: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def is_made(self) -> bool:
        return (self.folder / "made").exists()

    @property
    def interpreter(self) -> tuple[str, dict[str, str]]:
        """Its Python, and what a process of it needs in its environment."""
        return str(self.python), self.variables()

    def variables(self) -> dict[str, str]:
        """What a process of it needs in its environment."""
        return {
            **{k: v for k, v in minimal().items() if k not in _OURS},
            "PYTHONPATH": str(self.folder / "link"),
            "PYTHONWARNINGS": "ignore",
        }


def environment(name: str) -> Environment:
    """The environment of a requirements file, whether or not it has been created."""
    text = (_HERE / f"{name}.txt").read_bytes()
    version = ".".join(map(str, sys.version_info[:2]))
    digest = hashlib.sha256(text + version.encode() + str(_PACKAGE).encode()).hexdigest()[:12]
    root = Path(os.environ.get("HONE_ENVIRONMENTS") or hone_home() / "environments")
    return Environment(name, root / f"{name}-{digest}")


def version_of(name: str, distribution: str) -> str:
    """The version that a requirements file asks for; `none` where it doesn't."""
    for line in (_HERE / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        package, equals, version = line.partition("==")
        if equals and package.lower() == distribution.lower():
            return version
    return "none"


def requirement(name: str, distribution: str) -> str:
    """A distribution at the version that a requirements file asks for."""
    version = version_of(name, distribution)
    return distribution if version == "none" else f"{distribution}=={version}"


def make_environment(name: str, note: Callable[[str], None]) -> Environment:
    """The environment, created if it does not exist yet; a lock keeps other processes out.

    Args:
        name: Of the requirements file.
        note: Called with a message that it takes a while.

    Raises:
        EnvironmentFailed: pip could not install it; with its last line.
    """
    found = environment(name)
    with _locked(found.folder, name, note):
        if found.is_made:
            return found
        note(f"creating the environment for {name} (once, about a minute)")
        shutil.rmtree(found.folder, ignore_errors=True)
        torch = version_of(name, "torch")
        steps = [
            # -I: modules of the current folder and of PYTHONPATH are not for it
            [sys.executable, "-I", "-m", "venv", str(found.folder)],
            # torch first, pinned: as another package's dependency it would bring gigabytes of CUDA
            *([_pip(found, f"torch=={torch}")] if torch != "none" else []),
            _pip(found, "--requirement", str(_HERE / f"{name}.txt")),
        ]
        for command in steps:
            done = subprocess.run(  # noqa: S603 (a list of our own, no shell)
                command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
                env=minimal(("PIP_", "http", "HTTP", "https", "HTTPS", "no_proxy", "NO_PROXY")),
                cwd=found.folder.parent,  # nobody's pip.conf or setup.cfg
            )  # fmt: skip
            if done.returncode:
                shutil.rmtree(found.folder, ignore_errors=True)
                lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
                raise EnvironmentFailed(
                    f"the environment for {name} can't be created: {(lines or ['pip failed'])[-1]}",
                    where=str(found.folder),
                    do=f"look at: {' '.join(command)}",
                )
        (found.folder / "link").mkdir()
        (found.folder / "link" / "prefect_hone").symlink_to(_PACKAGE)
        (found.folder / "made").touch()
    return found


def _pip(found: Environment, *arguments: str) -> list[str]:
    return [
        str(found.python), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-compile",  # a third of the time; what is imported is compiled then
        *arguments,
    ]  # fmt: skip


@contextlib.contextmanager
def _locked(folder: Path, name: str, note: Callable[[str], None]) -> Iterator[None]:
    path = folder.with_suffix(".lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EnvironmentFailed(
            f"the environment for {name} can't be created: {error.strerror or error}",
            where=str(folder),
            do="set HONE_HOME or HONE_ENVIRONMENTS to a folder that you can write to",
        ) from error
    try:
        deadline, told = time.monotonic() + _LONGEST_WAIT, False
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if not told:
                note(f"another process is creating the environment for {name}; waiting for it")
                told = True
            if time.monotonic() > deadline:
                raise EnvironmentFailed(
                    f"another process has been creating the environment for {name} for more than "
                    f"{_LONGEST_WAIT / 60:.0f} min",
                    where=str(path),
                    do="end that process, then run again",
                )
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
