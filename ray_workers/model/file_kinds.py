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
    if not first:
        return "it is empty"
    for magic, said in _MAGIC:
        if first.startswith(magic) and not (archive and magic.startswith(b"PK")):
            return said
    return None


def safetensors_problem(path: Path) -> str | None:
    """Why a file is not a complete safetensors file; None if it is, or if that is unknown."""
    said = odd_kind(path)
    size = path.stat().st_size
    if said is not None or size < 8:
        return said or "it is cut off"
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > 100_000_000:
            return "it is not a safetensors file"
        header = stream.read(length)
    if len(header) < length:
        return "it is cut off" if header.startswith(b"{") else "it is not a safetensors file"
    try:
        tensors = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        whole = 8 + length + max((int(t["data_offsets"][1]) for t in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    if size < whole:
        return f"it is cut off: {size:,} of {whole:,} bytes"
    if size > whole:
        return f"it has {size - whole:,} bytes after its end"
    return None
