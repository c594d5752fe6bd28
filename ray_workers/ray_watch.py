"""Watches a process that connects to Ray, from outside; run as a script by `ray_start.py`.

Ray's core worker holds the interpreter's lock while it starts. If Ray's head process (the GCS) has
died or hangs by then, the core worker waits for ever, or ends the whole process from C++ after a
minute. Nothing in that process can say why. So a child does: it is told when the start is over,
and asks the GCS meanwhile. If that is silent, the child keeps the end of Ray's logs, says what
happened, and ends the process.

A script of its own, with the standard library only: it is started on each run.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

#: An HTTP/2 client's preface (RFC 9113, 3.4), with no settings; a server answers with its own.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4

#: How long the GCS may be silent before it counts as hanging (s): on a machine with much other work
#: it takes its time.
SILENCE = 120.0
#: How long its port may refuse connections before it counts as dead (s). After 60, Ray ends the
#: process.
REFUSAL = 30.0
#: How long a start has taken when Ray ends the process because it can't connect (s): after 60, and
#: without a word in its logs if those are not begun.
ENDED_BY_RAY = 55.0
_LONG = 30.0  # s: of a start that takes longer it is noted what its threads and connections do
_EACH = 5.0  # s for one answer, and between two
_TAIL = 200_000  # bytes of a log that are kept
_KEPT = 5  # starts whose logs are kept
_PREFIX = "ray-start-"
#: Logs of a Ray session that tell why a start failed.
_LOGS = (
    "gcs_server.out", "gcs_server.err", "raylet.out", "raylet.err", "python-core-driver-*.log",
)  # fmt: skip
#: The driver's log says so before Ray ends its process.
_FATAL = ("Failed to connect to GCS", "Failed to register worker to Raylet", " C ")

STOPPED = "Ray's head process (the GCS) stopped answering while Ray was starting"
DO_JOINED = "look at the cluster's head node (`ray status` there), and run this again"


def greeting(host: str, port: int, seconds: float) -> bytes | None:
    """The first 9 bytes that an HTTP/2 server answers; fewer if it closes the connection.

    Returns:
        None if it says nothing in time.

    Raises:
        OSError: It can't be connected to.
    """
    with socket.create_connection((host, port), timeout=seconds) as connection:
        connection.sendall(_HELLO)
        try:
            return connection.recv(9, socket.MSG_WAITALL)
        except TimeoutError:
            return None
        except OSError:
            return b""


def is_http2(head: bytes) -> bool:
    """Whether an answer is the one of an HTTP/2 server."""
    return len(head) >= 9 and head[3] == _SETTINGS


def keep_logs(session: Path, logs: Path, state: str = "") -> Path | None:
    """Keep the end of a Ray session's logs.

    Args:
        session: Folder of the session.
        logs: Where to keep them, in a folder of their own. Those of the last starts are kept.
        state: What the process did while it waited; it becomes a file beside them.

    Returns:
        The folder; None if there is nothing to keep, or it can't be written.
    """
    found = [path for name in _LOGS for path in sorted((session / "logs").glob(name))]
    found = [path for path in found if path.is_file() and path.stat().st_size]
    if not found:
        return None
    with contextlib.suppress(OSError):
        kept = logs / f"{_PREFIX}{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}"
        kept.mkdir(parents=True, mode=0o700)
        for path in found:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - _TAIL))
                (kept / path.name).write_bytes(log.read())
        if state:
            (kept / "state.txt").write_text(state, encoding="utf-8")
        for old in sorted(logs.glob(f"{_PREFIX}*"))[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return kept
    return None


def state_of(pid: int, port: int) -> str:
    """The load, threads of a process, and connections of a port, as Linux tells them."""
    lines = []
    with contextlib.suppress(OSError):
        lines.append(f"load {Path('/proc/loadavg').read_text(encoding='utf-8').strip()}")
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        with contextlib.suppress(OSError, IndexError):
            name, _, rest = (task / "stat").read_text(encoding="utf-8").rpartition(")")
            fields = rest.split()
            where = (task / "wchan").read_text(encoding="utf-8")
            lines.append(
                f"thread {name}) {fields[0]} user {fields[11]} system {fields[12]} {where}"
            )
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            rows = Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]
            lines += [
                f"{table} {' '.join(row.split()[1:5])}" for row in rows if f":{port:04X} " in row
            ]
    return "\n".join(lines) + "\n"


def says_why(session: Path) -> bool:
    """Whether the driver's log says that Ray ended its process."""
    for path in (session / "logs").glob("python-core-driver-*.log"):
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace")
            if any(said in text for said in _FATAL):
                return True
    return False


def last_error(log: Path) -> str | None:
    """The last error of one of Ray's logs in C++, without its time and place; None: there is none.

    Its lines are `[time E pid tid] (program) file.cc:line: text`.
    """
    found = None
    with contextlib.suppress(OSError):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            head, _, rest = line.partition("] ")
            is_error = head.startswith("[") and (" E " in head or " C " in head)
            if is_error and "metrics" not in rest:  # which nothing depends on
                found = rest.partition(": ")[2].strip() or found
    return None if found is None else found[:300]


def what_to_do(kept: Path | None) -> str:
    """Advice to the user.

    Args:
        kept: Where Ray's logs are kept.
    """
    look = "look for a full memory or disk, or for what ends processes"
    more = "" if kept is None else "; that folder has the end of Ray's logs"
    return f"run this again; if it happens again, {look}{more}"


def sentence(joined: str | None, kept: Path | None) -> str:
    """What a user reads.

    Args:
        joined: The address of a cluster that was joined; None: it was started here.
        kept: Where Ray's logs are kept.
    """
    if joined is not None:
        what = "the Ray cluster stopped answering while it was joined"
        return f"RAY_ADDRESS={joined}: {what}\n  → {DO_JOINED}"
    where = "" if kept is None else f"{kept}: "
    return f"{where}{STOPPED}\n  → {what_to_do(kept)}"


def answer(host: str, port: int, seconds: float) -> str:
    """What a GCS does: `answers`, `refuses` connections, or is `silent`."""
    try:
        head = greeting(host, port, seconds)
    except TimeoutError:
        return "silent"
    except OSError:
        return "refuses"
    # With TLS, a server answers this with an alert, or by closing.
    return "silent" if head is None else "answers"


def watch(asked: dict[str, str], said: int = 0) -> None:
    """Wait until the start is over, or the GCS is gone, or the process is.

    Args:
        asked: `host` and `port` of the GCS, `session` (empty for a cluster that is joined),
            `logs`, `joined`, `pid` of the process, `silence`, `refusal` and `ended` (s), and `json`
            for a line of JSON.
        said: Descriptor: a byte when the start is over; its end when the process is gone.
    """
    limits = {"silent": float(asked["silence"]), "refuses": float(asked["refusal"])}
    each = min(_EACH, *limits.values())
    since = dict.fromkeys(limits, time.monotonic())
    session = Path(asked["session"]) if asked["session"] else None
    over, began, state = False, time.monotonic(), ""
    while not over:
        if select.select([said], [], [], each)[0]:
            if os.read(said, 1):
                return
            break
        now, found = time.monotonic(), answer(asked["host"], int(asked["port"]), each)
        since = {kind: at if kind == found else now for kind, at in since.items()}
        over = any(time.monotonic() - since[kind] > limit for kind, limit in limits.items())
        if not state and time.monotonic() - began > _LONG:
            state = state_of(int(asked["pid"]), int(asked["port"]))
    by_ray = time.monotonic() - began > float(asked["ended"])
    if not over and not by_ray and (session is None or not says_why(session)):
        return  # ended by somebody else
    kept = None
    if session is not None and asked["logs"]:
        kept = keep_logs(session, Path(asked["logs"]), state)
    text = sentence(asked["joined"] or None, kept)
    if asked["json"]:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        text = json.dumps({"time": moment, "level": "error", "logger": "hone", "message": text})
    else:
        text = f"hone: {text}"
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    if over and not select.select([said], [], [], 0)[0]:  # it still is that process
        os.kill(int(asked["pid"]), signal.SIGKILL)


if __name__ == "__main__":
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # it ends with the process that it watches
    watch(json.loads(sys.argv[1]))
