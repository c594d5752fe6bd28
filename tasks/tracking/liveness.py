"""Whether the process that owns a run still lives. No clock is compared with another's.

On the same machine, within the same container, the kernel tells: by process id and by when the
process started, counted from the boot. For any other process there is only the heartbeat that it
writes: a run is dead if its heartbeat did not change for an hour between two looks of this machine,
on this machine's own clock since its boot. So a stepped clock, another host that is ahead, or two
containers of one name end nobody's run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...ray_workers.store.whole_files import replace_file
from . import names

STALE = 3600.0  # s without a change of a heartbeat after which its writer counts as dead
_MOST_LOOKS = 2000
_ENDED = -1  # ticks of a process that has ended, and whose parent has not asked for its status
_HOST_PID_SPACE = 0xEFFFFFFC  # Linux's number for the one that is no container's


class Owner(BaseModel):
    """A process, as the tag of a run names it.

    Attributes:
        host: Name of its machine, for people.
        machine: The machine's id; empty where it has none.
        boot: Of the machine, since when it runs.
        pid_space: In which process ids are counted: that of a container, or the machine's.
        pid: Process id.
        ticks: When it started, since the boot, in the kernel's unit.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    host: str = Field("", max_length=300)
    machine: str = Field("", max_length=100)
    boot: str = Field(max_length=100)
    pid_space: int
    pid: int = Field(gt=0, lt=2**31)
    ticks: int


def this_process() -> Owner:
    """The owner of the runs that this process starts."""
    return Owner(
        host=socket.gethostname(),
        machine=_text("/etc/machine-id"),
        boot=_boot(),
        pid_space=_pid_space(),
        pid=os.getpid(),
        ticks=_ticks(os.getpid()) or 0,
    )


def owner_tags() -> dict[str, str]:
    """The tags of a run that this process owns."""
    return {names.OWNER: this_process().model_dump_json(), names.HEARTBEAT: heartbeat()}


def heartbeat() -> str:
    """A value that differs from the last one; nobody reads a time in it."""
    return str(time.time_ns())


def owner_in(said: str | None) -> Owner | None:
    """The owner that a tag names; None for a tag that says nothing of use."""
    if said is None or len(said) > 2000:
        return None
    try:
        return Owner.model_validate_json(said)
    except ValidationError:
        return None


def is_gone(owner: Owner) -> bool | None:
    """Whether a process is gone; None if this process can't see it."""
    here = this_process()
    if owner.boot == here.boot and owner.pid_space == here.pid_space:
        return not _runs(owner)
    same_machine = owner.machine and owner.machine == here.machine and owner.host == here.host
    outside = owner.pid_space == here.pid_space == _HOST_PID_SPACE
    if same_machine and outside and owner.boot != here.boot:
        return True  # the machine has been restarted since
    return None


def _runs(owner: Owner) -> bool:
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    ticks = _ticks(owner.pid)
    return ticks is None or ticks == owner.ticks


class Looks:
    """What this machine saw of heartbeats, kept over runs.

    Args:
        file: Where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: dict[str, tuple[str, str, float]] = {}
        self._new: dict[str, tuple[str, str, float]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
            kept = json.loads(file.read_text(encoding="utf-8"))
            self._seen = {
                str(run): (str(beat), str(boot), float(at))
                for run, (beat, boot, at) in kept.items()
            }

    def is_dead(self, key: str, tags: Mapping[str, str]) -> bool:
        """Whether the process that owns a run is gone.

        Args:
            key: Of the run.
            tags: Of the run.
        """
        owner = owner_in(tags.get(names.OWNER))
        gone = None if owner is None else is_gone(owner)
        if gone is not None:
            return gone
        if names.OWNER not in tags:
            return False  # not Hone's
        return self.is_silent(key, tags.get(names.HEARTBEAT, "")[:100])

    def is_silent(self, key: str, beat: str) -> bool:
        """Whether a heartbeat has been the same for an hour, as this machine saw it."""
        seen = self._seen.get(key)
        if seen is None or seen[0] != beat or seen[1] != _boot() or seen[2] > _since_boot():
            seen = (beat, _boot(), _since_boot())
        self._new[key] = seen
        return _since_boot() - seen[2] > STALE

    def keep(self) -> None:
        """Write what was looked at; what was not looked at is forgotten."""
        if not self._new:
            self._file.unlink(missing_ok=True)
            return
        newest = sorted(self._new.items(), key=lambda item: item[1][2])[-_MOST_LOOKS:]
        with contextlib.suppress(OSError):
            replace_file(self._file, json.dumps(dict(newest)).encode())


def _since_boot() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _boot() -> str:
    return _text("/proc/sys/kernel/random/boot_id") or f"{psutil.boot_time():.0f}"


def _pid_space() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return _HOST_PID_SPACE  # not Linux


def _ticks(pid: int) -> int | None:
    """When a process started, since the boot; None if that can't be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:  # hidden, or not Linux
        try:
            return int(psutil.Process(pid).create_time() * 100)
        except psutil.Error:
            return None
    rest = stat.rpartition(")")[2].split()  # its name may hold anything
    return _ENDED if rest[0] in ("Z", "X") else int(rest[19])


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()[:100]
    except OSError:
        return ""
