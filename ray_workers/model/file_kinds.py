"""What a file that is not a model is instead: by its first bytes, in words."""

from __future__ import annotations

import json
import struct
from pathlib import Path

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer, not the file: run `git lfs pull`",
    ),
    (b"PK\x03\x04", "it is a zip archive, as torch.save writes one"),
    (b"\x80", "it is a pickle"),
    (b"\x89HDF", "it is an HDF5 file"),
    (b"\x1f\x8b", "it is packed with gzip"),
    (b"<", "it is a text file (HTML or XML)"),
)

_METADATA = "__metadata__"
_LONGEST_HEADER = 100_000_000  # bytes, safetensors' own limit
_LEAST = 9  # bytes, by which a safetensors file is known: the header's length and its first sign


def odd_kind(path: Path, *, archive: bool = False) -> str | None:
    """What a file is instead of a model, as a clause; None if its first bytes don't tell.

    Args:
        path: The file.
        archive: Whether it should be a zip archive.
    """
    try:
        with path.open("rb") as stream:
            first = stream.read(64)
    except OSError:
        return None
    return _odd_beginning(first, archive=archive)


def _odd_beginning(first: bytes, *, archive: bool = False) -> str | None:
    if not first:
        return "it is empty"
    for magic, said in _MAGIC:
        if first.startswith(magic) and not (archive and magic.startswith(b"PK")):
            return said
    return None


def safetensors_problem(path: Path) -> str | None:
    """Why a file is not a complete safetensors file; None if it is, or if that is unknown."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(64)
        length = int.from_bytes(head[:8], "little")
        head += stream.read(max(0, min(8 + length, 8 + _LONGEST_HEADER) - 64))
    try:
        whole = safetensors_size(head)
    except ValueError as error:
        return str(error)
    if whole is None:
        return (_odd_beginning(head) if size < _LEAST else None) or "it is cut off"
    if size < whole:
        return f"it is cut off: {size:,} of {whole:,} bytes"
    if size > whole:
        return f"it has {size - whole:,} bytes after its end"
    return None


def safetensors_size(head: bytes) -> int | None:
    """The size of a safetensors file (bytes), by its beginning; None: more of that is needed.

    Raises:
        ValueError: It is no safetensors file; the text says what it is.
    """
    if len(head) < _LEAST:
        return None
    (length,) = struct.unpack("<Q", head[:8])
    if length > _LONGEST_HEADER or head[8:9] != b"{":
        raise ValueError(_odd_beginning(head) or "it is not a safetensors file")
    if len(head) < 8 + length:
        return None
    try:
        said = json.loads(head[8 : 8 + length])
        ends = [tensor["data_offsets"][1] for name, tensor in said.items() if name != _METADATA]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise ValueError("its header is not that of a safetensors file") from None
    if not all(type(end) is int and end >= 0 for end in ends):
        raise ValueError("its header is not that of a safetensors file")
    whole: int = 8 + length + max(ends, default=0)
    return whole
