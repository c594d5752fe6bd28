"""How a process gives up its privileges, by the Linux kernel's own means. Imports nothing of Hone.

Each protection is taken if the system has it, and reported. Without Linux none but the limits are.

- `user`: a user and group id that nothing else has, where the process is root and Python and its
  libraries do not lie in root's home.
- `privileges`: no program can raise them again (`PR_SET_NO_NEW_PRIVS`), and no capability is left.
- `network`: an empty network namespace.
- `files`: Landlock; Python, its libraries and one folder can be read, one folder written, nothing
  executed. No signal and no TCP connection, where the kernel has that.
- `limits`: on processor time, files, file sizes and processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_READ = 0b1100  # files and folders
_ALL_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_EXECUTE = 1
_OF_FILES = 0b100  # reading: what a rule on a single file may allow
#: systemd's range for users that exist only while a process runs.
_DYNAMIC_USERS = (61184, 65519)


def own_user(needed: Iterable[str], given: Path | None = None) -> int | None:
    """A user id for a child, where this process is root and another user can read what is needed.

    Args:
        needed: Folders of Python and its libraries (not so where they lie in root's home).
        given: A folder that will be given to that user.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(_is_public, needed)):
        return None
    if given is not None and not _is_passable(given):
        return None
    first, last = _DYNAMIC_USERS
    return first + int.from_bytes(os.urandom(4), "little") % (last - first + 1)


def _is_public(folder: str) -> bool:
    path = Path(folder).resolve()
    return path.is_dir() and path.stat().st_mode & 0o5 == 0o5 and _is_passable(path)


def _is_passable(path: Path) -> bool:
    """Whether other users get to a path: they need not be able to list the folders above it."""
    return all(parent.stat().st_mode & 0o1 for parent in path.resolve().parents)


def confine(
    readable: Iterable[Path],
    writable: Path,
    user: int | None,
    seconds: int,
    largest_file: int,
) -> list[str]:
    """Give up this process's privileges; it must have one thread.

    Args:
        readable: Files and folders that it may read.
        writable: A folder that it may write.
        user: The user and group id that it gets; None: it keeps its own.
        seconds: Processor time that it has.
        largest_file: Bytes of the largest file that it may write.

    Returns:
        Names of the protections that were available.
    """
    taken = ["limits"]
    _limit(seconds, largest_file)
    if sys.platform != "linux":
        return taken
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    opened = [(path, fd) for path in readable if (fd := _opened(path)) is not None]
    if _without_network(libc):
        taken.append("network")
    if user is not None and _become(user):
        taken.append("user")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and _without_capabilities(libc):
        taken.append("privileges")
    if _landlock(libc, opened, writable):
        taken.append("files")
    for _, fd in opened:
        os.close(fd)
    libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)  # another user id has cleared it
    return taken


def limit_memory(more: int) -> bool:
    """Limit this process's address space to what it has now and `more` bytes; whether it worked."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        whole = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (whole, whole))
    except (OSError, ValueError):
        return False
    return True


def _limit(seconds: int, largest_file: int) -> None:
    for name, value in (
        ("RLIMIT_CORE", 0),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_FSIZE", largest_file),
        ("RLIMIT_NOFILE", 256),
        ("RLIMIT_NPROC", 0),
    ):
        kind = getattr(resource, name, None)
        if kind is not None:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, (value, value))


def _without_network(libc: ctypes.CDLL) -> bool:
    spaces = _CLONE_NEWNET | _CLONE_NEWIPC
    return any(int(libc.unshare(which)) == 0 for which in (spaces, spaces | _CLONE_NEWUSER))


def _become(user: int) -> bool:
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError:
        return False
    return os.getresuid() == (user, user, user)


def _without_capabilities(libc: ctypes.CDLL) -> bool:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    return bool(libc.capset(header, (ctypes.c_uint32 * 6)()) == 0)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None


def _landlock(libc: ctypes.CDLL, readable: list[tuple[Path, int]], writable: Path) -> bool:
    """https://docs.kernel.org/userspace-api/landlock.html"""
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    known = max(number for number in _ALL_BY_VERSION if number <= version)
    everything = _ALL_BY_VERSION[known]
    fields = [everything]
    if version >= 4:
        fields.append(0b11)  # TCP: bind and connect
    if version >= 6:
        fields.append(0b11)  # abstract sockets and signals of other processes
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    rules = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return False
    home = _opened(writable)
    allowed = [(fd, _READ if path.is_dir() else _OF_FILES) for path, fd in readable]
    if home is not None:
        allowed.append((home, everything & ~_EXECUTE))
    for fd, access in allowed:
        libc.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", access, fd), 0)
    restricted = int(libc.syscall(_RESTRICT_SELF, rules, 0)) == 0
    os.close(rules)
    if home is not None:
        os.close(home)
    return restricted
