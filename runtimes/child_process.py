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
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

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
        self._errors = _LastOutput(cast("IO[bytes]", self.process.stderr))
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
        self._errors.close()
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
            self._wait_for_answer()
            said, value = self._connection.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            raise self._died() from None
        if said == "error":
            raise RuntimeFailed(**value)
        return value

    def _wait_for_answer(self) -> None:
        """Wait for an answer, or for the connection's end, at most for `timeout`.

        A process that the child forked may hold the connection open after the child's end.
        """
        deadline = time.monotonic() + self.timeout
        while not self._connection.poll(max(0.0, min(1.0, deadline - time.monotonic()))):
            if self.process.poll() is not None and not self._connection.poll(0):
                raise self._died()
            if time.monotonic() >= deadline:
                raise RuntimeSilent(f"the runtime did not answer within {self.timeout:g} s")

    def _died(self) -> RuntimeDied:
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            return RuntimeDied("the runtime's process closed its connection")
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return RuntimeDied(f"the runtime's process died of {name}{hint}")
        last = self._errors.last_line()
        detail = f": {last}" if last else ""
        return RuntimeDied(f"the runtime's process ended with code {code}{detail}")


class _LastOutput:
    """The end of what a process writes to a pipe, which is read all the time.

    A pipe holds 64 KiB. A process that writes more (a verbose runtime, a warning at each call)
    would wait for its reader in the middle of a call, for ever.
    """

    def __init__(self, pipe: IO[bytes], kept: int = 2000) -> None:
        self._pipe = pipe
        self._kept = kept
        self._end = b""
        # A process forked by the child may hold the pipe open after the child's end.
        self._reader = threading.Thread(target=self._read, name="hone-child-stderr", daemon=True)
        self._reader.start()

    def last_line(self) -> str:
        """Its last line, once the process has ended; of at most `kept` bytes."""
        self._reader.join(2)
        return self._end.strip().rpartition(b"\n")[2].decode(errors="replace")

    def close(self) -> None:
        self._reader.join(2)
        if not self._reader.is_alive():
            self._pipe.close()

    def _read(self) -> None:
        while some := os.read(self._pipe.fileno(), 1 << 16):
            self._end = (self._end + some)[-self._kept :]
