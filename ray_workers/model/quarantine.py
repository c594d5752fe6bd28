"""A stranger's model file in a process with nothing to lose, the parent's side.

A child process (`quarantine_child.py`) without privileges opens the file before the worker does. It
has its own empty folder and home, no variables of this process, no descriptors, no network, its own
user where this process is root, and limits on time, memory, files and processes; `confinement.py`
says how, and which of it a system may lack. Files are checked against what is known of their format
before (`program_file.py`, `keras_file.py`, `onnx_model.py`).

What that gives:

- A file that crashes its library, hangs or fills the memory does so in the child, and is refused.
- Whatever a mistake in the check lets run when the file is opened finds nothing there: no secrets,
  no network, no files of the user, no program to start.
- Of a Keras file the worker gets its weights as safetensors from the child: HDF5 is parsed there.

What it doesn't: of an exported program and an ONNX file the child only says that they can be
opened; the worker then opens the same bytes. Code that the check overlooked, and that recognizes
the child, would run in the worker. That's why exported programs are off for recipes from a form or
an event (`recipe/model_formats.py`). Neither does it limit what a model computes when it is used.
Of a transformers folder the child gets the configuration, which chooses the code; not the weights,
which are safetensors.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import selectors
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ...recipe.errors import InputError
from ...runtimes.digest import file_digest, tree_digest
from ..scratch import lasting_folder
from . import quarantine_child
from .confinement import own_user

_SECONDS = 600
_LONGEST_ANSWER = 100_000
_LIBRARY = {
    "program": "torch", "keras": "keras", "onnx": "onnxruntime", "transformers": "transformers",
}  # fmt: skip
_LEAST_MEMORY = 2 * 2**30


class OpeningFailed(Exception):
    """The library can't open the file; the text is the library's."""


@dataclass(frozen=True)
class Opened:
    """A file that a child could open.

    Attributes:
        path: The file, a copy.
        protections: What the child gave up, as `confinement.py` names it.
        weights: A Keras model's, as safetensors.
        parameters: How many a transformers configuration describes; 0: it was not asked.
    """

    path: Path
    protections: tuple[str, ...]
    weights: Path
    parameters: int = 0


#: What this process had opened already, by kind, name and digest of the files.
_OPENED: dict[tuple[str, str, str], Opened] = {}


class Quarantine:
    """A private folder for a stranger's files, and a child that opens them.

    Attributes:
        folder: The files; the child can read it.
    """

    def __init__(self, root: Path, user: int | None) -> None:
        self._user = user
        self.folder, self._home = root / "files", root / "home"
        for folder in (self.folder, self._home):
            folder.mkdir(mode=0o700)

    def open(self, path: Path, kind: str, where: str, modules: Sequence[str] = ()) -> Opened:
        """Open a file of the folder in a child, unless this process has had the same bytes opened.

        Args:
            path: The file.
            kind: `program`, `onnx` or `transformers`.
            where: What an error calls it.
            modules: Of libraries, to import before.

        Raises:
            OpeningFailed: The library refuses it.
            InputError: The child died, took too long, or too much memory.
        """
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        digests = {file.relative_to(self.folder).as_posix(): file_digest(file) for file in files}
        seen = (kind, path.name, tree_digest(digests))
        if seen not in _OPENED:
            _OPENED[seen] = self.opened(path, kind, where, modules)
        return _OPENED[seen]

    def opened(self, path: Path, kind: str, where: str, modules: Sequence[str] = ()) -> Opened:
        """Open a file of the folder in a child.

        Args:
            path: The file.
            kind: `program`, `keras`, `onnx` or `transformers`.
            where: What an error calls it.
            modules: Of libraries, to import before.

        Raises:
            OpeningFailed: The library refuses it.
            InputError: The child died, took too long, or too much memory.
        """
        self._hand_over()
        size = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        available = psutil.virtual_memory().available
        asked: dict[str, Any] = {
            "kind": kind,
            "modules": list(modules),
            "path": str(path),
            "folder": str(self.folder),
            "home": str(self._home),
            "user": self._user,
            "seconds": _SECONDS,
            "largest_file": 2 * size + 2**20 if kind == "keras" else 2**20,
            "memory": max(_LEAST_MEMORY, min(8 * size, available)),
            "paths": _paths(_LIBRARY[kind]),
            "beside": [str(Path(__file__).parent)],
        }
        answer = _answer(asked, self._home, where)
        if "error" in answer:
            if answer["error"] == "MemoryError":
                raise InputError("opening it takes more memory than its size explains", where=where)
            raise OpeningFailed(str(answer.get("text")) or str(answer["error"]))
        protections = tuple(map(str, answer.get("protections", ())))
        weights = self._home / "weights"
        if kind == "keras" and not _is_plain_file(weights):
            raise InputError("a process of its own that opened it gave no weights", where=where)
        counted = answer.get("parameters")
        return Opened(path, protections, weights, counted if type(counted) is int else 0)

    def _hand_over(self) -> None:
        """Give the child's group the files, to read only, and its user the other folder."""
        if self._user is None:
            return
        os.chmod(self.folder.parent, 0o710)  # noqa: S103 - its group is the child's alone
        os.chown(self.folder.parent, -1, self._user)
        os.chown(self._home, self._user, self._user)
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, -1, self._user, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(0o750 if path.is_dir() else 0o640)


def _is_plain_file(path: Path) -> bool:
    """Whether a child wrote a file there, and no link to another."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


@contextlib.contextmanager
def quarantine() -> Iterator[Quarantine]:
    """A private folder for a stranger's files, which is gone afterwards."""
    root = str(lasting_folder("quarantine", reachable=True))
    try:
        yield Quarantine(Path(root), own_user({sys.prefix, sys.base_prefix}, Path(root)))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _answer(asked: dict[str, Any], home: Path, where: str) -> dict[str, Any]:
    ours, theirs = os.pipe()
    try:
        root = Path(__file__).parents[__name__.count(".")]
        start = f"import sys; sys.path.append({str(root)!r}); " + (
            f"from {quarantine_child.__name__} import main; main()"
        )
        child = subprocess.Popen(  # noqa: S603 (a list of our own, no shell)
            [sys.executable, "-I", "-c", start, json.dumps({**asked, "answer": theirs})],
            pass_fds=[theirs],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env=_environment(home),
            start_new_session=True,
        )
        os.close(theirs)
        theirs = -1
        try:
            text = _read(ours, _SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # its session: whatever it may have started
            code = child.wait()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
    try:
        answer = json.loads(text or b"")
        if isinstance(answer, dict):
            return answer
    except (ValueError, RecursionError):
        pass
    raise InputError(
        "a process of its own that opened it " + _end(code, text),
        where=where,
        do="the file is damaged or hostile, or this machine has too little memory for it",
    )


def _end(code: int, text: bytes | None) -> str:
    if text is None:
        return f"did not end within {_SECONDS} s"
    return f"died of signal {-code}" if code < 0 else f"ended with code {code}"


def _read(descriptor: int, seconds: float) -> bytes | None:
    """All that a child writes until it ends; None if that takes too long or is too much."""
    found, end = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while len(found) <= _LONGEST_ANSWER:
            if not selector.select(max(0.0, end - time.monotonic())):
                return None
            part = os.read(descriptor, 65536)
            if not part:
                return found
            found += part
    return None


def _environment(home: Path) -> dict[str, str]:
    """No variable of this process: they hold tokens and proxies."""
    return {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "torch",
        "KERAS_HOME": str(home),
        "KERAS_TORCH_DEVICE": "cpu",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
    }


def _paths(library: str) -> list[str]:
    """The folder of a library that the child's interpreter doesn't find by itself."""
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parents[1]
    within = any(folder.is_relative_to(prefix) for prefix in (sys.prefix, sys.base_prefix))
    return [] if within else [str(folder)]
