"""An artifact in a separate process, the parent's side.

Runtimes disturb each other when they share a process (idle thread pools spin), a runtime may crash,
and some need an isolated environment. So the artifact is opened by a child that runs nothing else
(`child.py`).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from . import child
from .child_environment import minimal, without_keys
from .errors import RuntimeDied, RuntimeFailed, RuntimeSilent
from .predict import Array, Arrays, LoadOptions, Outputs

#: The interpreter of another environment, and the environment variables that it needs.
Interpreter = tuple[str, dict[str, str]]


class ChildProcess:
    """A child that opens an artifact and predicts.

    Attributes:
        process: The child.
        timeout: Longest wait for an answer (s).
        began: When it was started, on the clock of `time.perf_counter` (s).

    Args:
        loader: Import path `module:function` of a `Load`.
        folder: The artifact's files.
        options: What the loader takes (`threads`, ...), plain data.
        timeout: Longest wait for an answer (s).
        python: Another environment's interpreter; None: this one.
    """

    def __init__(
        self,
        loader: str,
        folder: Path,
        options: LoadOptions,
        timeout: float = 600,
        python: Interpreter | None = None,
    ) -> None:
        self.timeout = timeout
        self.began = time.perf_counter()
        calls_users_code = "allowed" in options
        interpreter, variables = python or (
            sys.executable,
            dict(os.environ) if calls_users_code else minimal(),
        )
        self._temporary = self._temporary_folder()
        ours, theirs = socket.socketpair()
        threads = str(options.get("threads", 1))
        environment = {
            **without_keys(variables),
            "PYTHONSAFEPATH": "1",
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONWARNINGS": "ignore",
            # AOTInductor unpacks the whole model there, and a child that is killed leaves it.
            "TMPDIR": str(self._temporary),
        }
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 (a list of our own, no shell)
                # -P: without it, a numpy.py in the current folder would be imported as numpy
                [interpreter, "-P", "-m", child.__name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                # Where the user's code expects to be, else where nobody leaves files to be found.
                cwd=None if calls_users_code else "/",
            )
        self._connection = Connection(ours.detach())
        self._send(("load", loader, str(folder.absolute()), options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def wait_loaded(self) -> None:
        """Wait until the artifact is loaded.

        Raises:
            RuntimeFailed: The runtime refuses it.
            RuntimeDied: The child died; with the signal.
        """
        self._answer()

    def predict(self, inputs: Arrays) -> Array:
        """The main output (N, ...) for inputs (N, ...) by name."""
        self._send(("predict", inputs))
        return np.asarray(self._answer())

    def outputs(self, inputs: Arrays) -> Outputs:
        """All outputs for inputs (N, ...) by name: the only one, or each by its name."""
        self._send(("outputs", inputs))
        found: Outputs = self._answer()
        return found

    def close(self) -> None:
        """End the child, in whatever state it is."""
        self._connection.close()
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _temporary_folder(self) -> Path:
        """A new private folder for the child's temporary files, removed by `close`."""
        return Path(tempfile.mkdtemp(prefix="hone-child-"))

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self._connection.send(message)
        except (BrokenPipeError, ConnectionResetError, OSError):
            raise self._died() from None

    def _answer(self) -> Any:
        try:
            if not self._connection.poll(self.timeout):
                raise RuntimeSilent(f"the runtime did not answer within {self.timeout:g} s")
            said, value = self._connection.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            raise self._died() from None
        if said == "error":
            raise RuntimeFailed(**value)
        return value

    def _died(self) -> RuntimeDied:
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            return RuntimeDied("the runtime's process closed its connection")
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return RuntimeDied(f"the runtime's process died of {name}{hint}")
        last = b""
        if self.process.stderr is not None:
            last = self.process.stderr.read()[-2000:].strip().rpartition(b"\n")[2]
        detail = f": {last.decode(errors='replace')}" if last else ""
        return RuntimeDied(f"the runtime's process ended with code {code}{detail}")
