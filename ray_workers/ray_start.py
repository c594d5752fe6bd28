"""Connecting to Ray so that a head process (the GCS) that dies or hangs meanwhile is told.

Once Ray's core worker starts, nothing of this process runs until it has connected. So the GCS is
asked just before, and a child (`ray_watch.py`) watches from then on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..recipe.errors import HoneError, ServerUnreachable
from ..recipe.library_messages import telling
from ..runtimes.child_environment import minimal
from . import access, ray_private, ray_watch
from .scratch import ray_folder

_SECONDS = 5.0  # for one answer of the GCS
_PATIENCE = 30.0  # for a GCS that accepts and is silent: a busy machine is slow
_REFUSALS, _PAUSE = 3, 0.5  # s between two
_STARTS = 2


class GcsSilent(Exception):
    """The GCS of a cluster that is being connected to doesn't answer, or not to this process."""


class Watch:
    """The connection of this process to one cluster, while it is being made.

    Args:
        joined: Address of a cluster that is joined; None: it is started here.
        logs: Where the end of Ray's logs is kept if the start fails; None: nowhere.
        folder: Ray's folder, in which it makes one for the session; None: one is joined.
    """

    def __init__(self, joined: str | None, logs: Path | None, folder: Path | None = None) -> None:
        self.joined = joined
        self.logs = logs
        self.folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Ask the GCS, and watch from now on; Ray calls this before its core worker starts.

        Raises:
            GcsSilent: It does not answer.
        """
        found = ray_private.connecting()
        if found is None:
            return
        address, session = found
        self._require_answer(address)
        host, _, port = address.rpartition(":")
        asked = {
            "host": host.strip("[]"), "port": port, "pid": str(os.getpid()),
            "session": "" if self.joined is not None else session,
            "logs": str(self.logs or ""), "joined": self.joined or "",
            "silence": str(ray_watch.SILENCE), "refusal": str(ray_watch.REFUSAL),
            "ended": str(ray_watch.ENDED_BY_RAY),
            "json": "yes" if os.environ.get("HONE_LOG_FORMAT") == "json" else "",
        }  # fmt: skip
        with contextlib.suppress(OSError):  # no process can be had: nobody watches
            self._child = subprocess.Popen(  # noqa: S603 (a list of our own, no shell)
                [sys.executable, "-I", "-S", ray_watch.__file__, json.dumps(asked)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=minimal(), cwd="/",
            )  # fmt: skip

    def _require_answer(self, address: str) -> None:
        deadline, refusals = time.monotonic() + _PATIENCE, 0
        while True:
            # First without Ray, whose client takes 10 s for a port that refuses, and prints so.
            there = access.answer_of(address, _SECONDS)
            answer = ray_private.ask(address, _SECONDS) if there == "answers" else there
            if answer in ("admits", "unknown") or (answer == "refuses" and self.joined is not None):
                return
            refusals += answer == "refuses"
            if refusals == _REFUSALS or time.monotonic() > deadline:
                raise GcsSilent(address)
            time.sleep(_PAUSE)

    def keep(self) -> Path | None:
        """Keep the end of Ray's logs; returns their folder, None if there are none."""
        if self.logs is None or self.folder is None:
            return None
        for session in self.folder.glob("session_2*"):
            return ray_watch.keep_logs(session, self.logs)
        return None

    def close(self) -> None:
        """The connection is made, or given up in order."""
        child, self._child = self._child, None
        if child is None or child.stdin is None:
            return
        with contextlib.suppress(OSError):
            child.stdin.write(b".")
            child.stdin.close()
        child.wait()


def start_here(
    start: Callable[[Watch, Path], None], undone: contextlib.ExitStack, logs: Path | None
) -> None:
    """Start a cluster; once more if its GCS dies or hangs before anything has worked with it.

    Args:
        start: Starts it, with a private folder for its session.
        undone: Gets what has to be undone when the cluster is no more.
        logs: Where the end of Ray's logs is kept; None: nowhere.

    Raises:
        AccessRefused: The environment names a token that can't be read.
        HoneError: It can't be started, or its GCS did not answer in two starts.
    """
    for left in reversed(range(_STARTS)):
        undone.enter_context(access.own_token())
        folder = ray_folder()
        undone.callback(shutil.rmtree, folder, ignore_errors=True)
        watch = Watch(None, logs, folder)
        try:
            start(watch, folder)
            return
        except HoneError:
            raise
        except Exception as error:
            kept = watch.keep()
            ray_private.give_up()
            undone.close()
            if not _is_of_the_gcs(error):
                where = None if kept is None else str(kept)
                said = f"Ray can't be started here: {telling(error)}"
                raise HoneError(said, where=where) from error
            if not left:
                raise _silent(kept) from error
        finally:
            watch.close()


def join(start: Callable[[Watch], None], address: str) -> None:
    """Join a cluster.

    Raises:
        ServerUnreachable: It stopped answering meanwhile.
    """
    watch = Watch(address, None)
    try:
        start(watch)
    except GcsSilent as error:
        ray_private.give_up()
        raise ServerUnreachable(
            "the Ray cluster stopped answering while it was joined",
            where=f"RAY_ADDRESS={address}",
            do=ray_watch.DO_JOINED,
        ) from error
    finally:
        watch.close()


def head_ended(name: str, watch: Watch | None) -> HoneError:
    """The error of a run whose cluster lost a process that it can't do without.

    Args:
        name: `gcs_server` or `raylet`.
        watch: Of its start; the end of Ray's logs is kept where that keeps it.
    """
    what = {"gcs_server": "head process (the GCS)", "raylet": "node process (the raylet)"}
    kept = None if watch is None else watch.keep()
    why = None if kept is None else ray_watch.last_error(kept / f"{name}.out")
    return HoneError(
        f"Ray's {what.get(name, name)} ended while the run used it" + (f": {why}" if why else ""),
        where=None if kept is None else str(kept),
        do="run this again, what was computed is kept; if it happens again, look for a full memory "
        "or disk, or for what ends processes",
    )


def _is_of_the_gcs(error: Exception) -> bool:
    """Whether a start failed because the GCS died, hangs, or was too slow for Ray's own limits."""
    return isinstance(error, GcsSilent) or "gcs" in str(error).lower()


def _silent(kept: Path | None) -> HoneError:
    return HoneError(
        f"{ray_watch.STOPPED}, in {_STARTS} starts",
        where=None if kept is None else str(kept),
        do=ray_watch.what_to_do(kept),
    )
