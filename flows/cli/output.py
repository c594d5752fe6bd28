"""Standard output and standard error of a command: without credentials, and without a reader.

A reader may go away (`hone run | head -1`, a closed terminal), and a disk may fill up. A run goes
on without output then, because it may have worked for hours; any other command ends, as tools of
Unix do.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from ...recipe.library_messages import telling
from ...recipe.showable import showable

EXIT_NO_READER = 141  # 128 + SIGPIPE, as a shell shows it
_NO_READER = (errno.EPIPE, errno.EIO, errno.ECONNRESET)


class OutputLost(OSError):
    """A command's output can't be written."""

    @property
    def reader_is_gone(self) -> bool:
        return self.errno in _NO_READER


class Output:
    """A stream that hides credentials, and whose reader may go away.

    Args:
        stream: `sys.stdout` or `sys.stderr`.

    Attributes:
        log: Once set, a lost reader is noted there and the command goes on.
        lost: The reader is gone; nothing is written any more.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.log: Path | None = None
        self.lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self.write_as_it_is(showable(text))
        return len(text)

    def write_as_it_is(self, text: str) -> None:
        """Write a text whose credentials are what was asked for."""
        with self._guarded():
            self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._guarded():
            self._stream.flush()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.lost:
                return
            self.lost = True
            self._discard_the_rest()
            if self.log is None:
                raise OutputLost(error.errno, error.strerror) from None
            self._note(error)

    def _discard_the_rest(self) -> None:
        """Also what the stream holds: Python would try again at exit, and fail with code 120."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def _note(self, error: OSError) -> None:
        name = "standard output" if self._stream is not sys.__stderr__ else "standard error"
        why = "nobody reads" if error.errno in _NO_READER else f"{telling(error)}: can't write"
        text = f"{why} the {name} any more; the run goes on without it"
        if self.log is not None:
            with contextlib.suppress(OSError):
                self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with self.log.open("a", encoding="utf-8") as file:
                    moment = time.strftime("%Y-%m-%d %H:%M:%S")
                    file.write(f"{moment} process {os.getpid()}: {text}\n")
        other = sys.stderr
        if isinstance(other, Output) and other is not self and not other.lost:
            other.write(f"hone: {text}\n")
            other.flush()


_at_once = threading.Event()


def leave_at_once() -> None:
    """Let `leave` end the process without Python's own end, which waits for threads."""
    _at_once.set()


def leave(code: int | str | None) -> NoReturn:
    """End the command."""
    gc.freeze()  # looking for garbage among all that is imported would take a second
    if _at_once.is_set():
        os._exit(code if isinstance(code, int) else 1 if code else 0)
    sys.exit(code)


def guard_output() -> None:
    """Put both streams behind an `Output`, once.

    What their encoding lacks (a locale that is not UTF-8) is written by similar characters.
    """
    codecs.register_error(_SIMILAR, _similar)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Output):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # no stream of a file
                stream.reconfigure(errors=_SIMILAR)
            setattr(sys, name, Output(stream))


_SIMILAR = "hone-similar"
_ASCII = {"×": "x", "→": "->", "←": "<-", "★": "*", "…": "...", "·": ".", "–": "-", "—": "-",
          "±": "+/-", "≤": "<=", "≥": ">=", "µ": "u", "✓": "ok", "✗": "x"}  # fmt: skip


def _similar(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end]
    return "".join(_ASCII.get(letter, "?") for letter in wanted), error.end


_for_json: list[Any] = []


@contextlib.contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """A context in which only `write_json` writes to standard output, and all else to stderr.

    MLflow and other libraries print to standard output, also from C and from processes that they
    start; so the file descriptor is redirected too. It stays so to the end of the process, because
    they also print when it ends.

    Args:
        wanted: Whether the command prints a JSON document.
    """
    if not wanted:
        yield
        return
    before = sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if before.fileno() == 1:
            before.flush()
            kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
            os.dup2(2, 1)
            _for_json.append(Output(kept))
    if not _for_json:  # no stream of the system's, as in a test
        _for_json.append(before)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = before
        _for_json.clear()


def write_json(text: str) -> None:
    """Write a command's JSON document to standard output."""
    stream = _for_json[-1] if _for_json else sys.stdout
    stream.write(text + "\n")
    stream.flush()


def go_on_without_reader(log: Path) -> None:
    """Let the command go on when a reader goes away; `log` is told."""
    for stream in (sys.stdout, sys.stderr, *_for_json):
        if isinstance(stream, Output):
            stream.log = log


def flush_output() -> None:
    """Write what the streams still hold.

    Raises:
        OutputLost: Nobody reads it.
    """
    sys.stdout.flush()
    with contextlib.suppress(OutputLost):
        sys.stderr.flush()
