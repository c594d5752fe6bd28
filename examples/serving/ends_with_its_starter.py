"""Runs a command that ends when whoever started it does, however that ends: by SIGKILL, too.

    python ends_with_its_starter.py COMMAND...

Whoever starts it holds the other end of its standard input, and keeps it open. (Linux's
`PR_SET_PDEATHSIG` would be shorter, but it fires when the *thread* that started the command ends.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

PATIENCE = 10.0  # s between SIGTERM and SIGKILL


def main() -> int:
    process = subprocess.Popen(  # noqa: S603 (the starter's command, no shell)
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # with all that it starts
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: _send(process, signal.SIGTERM))
    threading.Thread(target=_end_at_eof, args=(process,), daemon=True).start()
    code = process.wait()
    _send(process, signal.SIGKILL)  # what it started and left behind
    return code


def _end_at_eof(process: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    _send(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    _send(process, signal.SIGKILL)


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(main())
