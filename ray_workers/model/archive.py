"""A zip archive from a stranger: only known members, of limited sizes.

The limits are on what the members say of themselves, before anything is unpacked; reading stops
there, because zipfile reads no more of a member than its entry says.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from ...recipe.errors import InputError
from .file_kinds import odd_kind

_LARGEST_RATIO = 200  # of one member's size to its packed size: more is a bomb
#: Both writers, torch and Keras, store without packing; this is for archives packed again.
_LARGEST_WHOLE = (256 * 2**20, 4)  # bytes, and times the file's size
_MOST_MEMBERS = 100_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def opened(
    path: Path, where: str, refusal: Callable[[str, bytes], str | None]
) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An archive and its members by name, all of them known and none too large.

    Args:
        path: The archive.
        where: What an error calls it.
        refusal: Why a member is refused, by its name and its first bytes; None: it is known.

    Raises:
        InputError: It is no zip file, or has members that are unknown, there twice, or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive, _checked(archive, path, where, refusal)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        said = odd_kind(path, archive=True) or "it is no zip file, or it is cut off"
        raise InputError(f"this is not a {path.suffix} file: {said}", where=where) from error
    except (RuntimeError, ValueError) as error:  # a password; an entry that contradicts itself
        raise InputError("its zip archive can't be read", where=where) from error


def _checked(
    archive: zipfile.ZipFile, path: Path, where: str, refusal: Callable[[str, bytes], str | None]
) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > _MOST_MEMBERS:
        raise InputError(f"it has {len(entries):,} members", where=where)
    _check_whole(entries, path, where)
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(entry, found, where)
        found[entry.filename] = entry
    for name, entry in found.items():
        if (reason := refusal(name, b"")) is None:
            continue
        with archive.open(entry) as stream:
            reason = refusal(name, stream.read(16)) or reason
        raise InputError(f"'{_shown(name)}' {reason}", where=where)
    return found


def _check_entry(entry: zipfile.ZipInfo, found: dict[str, zipfile.ZipInfo], where: str) -> None:
    name = entry.filename
    if name.startswith("/") or ".." in Path(name).parts or "\\" in name:
        raise InputError(f"'{_shown(name)}' leads out of the archive", where=where)
    if entry.file_size > _LARGEST_RATIO * max(1024, entry.compress_size):
        raise InputError(
            f"'{_shown(name)}' unpacks to {entry.file_size:,} bytes from "
            f"{entry.compress_size:,}: this looks like a zip bomb",
            where=where,
        )
    if name in found:
        raise InputError(f"'{_shown(name)}' is there twice", where=where)
    if entry.compress_type not in _METHODS or entry.flag_bits & 0x1:
        raise InputError(f"'{_shown(name)}' is packed in an unusual way, or encrypted", where=where)


def _check_whole(entries: list[zipfile.ZipInfo], path: Path, where: str) -> None:
    whole, packed = sum(entry.file_size for entry in entries), path.stat().st_size
    least, times = _LARGEST_WHOLE
    if whole > max(least, times * packed):
        raise InputError(
            f"its members unpack to {whole:,} bytes from {packed:,}: this looks like a zip bomb",
            where=where,
        )
    available = psutil.virtual_memory().available
    if whole > available:
        raise InputError(
            f"its members unpack to {whole:,} bytes, and {available:,} bytes of memory are "
            "available",
            where=where,
            do="run on a machine with more memory",
        )


def _shown(name: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in name[:120])
    return shown if len(name) <= 120 else f"{shown}..."
