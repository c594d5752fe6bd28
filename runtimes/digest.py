"""The sha256 that identifies an artifact in the store, in the registry, and where it is served."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_digest(files: dict[str, str]) -> str:
    """sha256 of a folder, from the sha256 of each file by its relative path."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def digests_in(folder: Path) -> dict[str, str]:
    """sha256 of each file in a folder, by its relative path.

    Raises:
        ValueError: The folder is empty, or holds a link, something that is neither a file nor a
            folder, or a name with control characters.
    """
    files = {name: file_digest(folder / name) for name in sorted(_names_in(folder))}
    if not files:
        raise ValueError("an artifact can't be empty")
    return files


def _names_in(folder: Path, prefix: str = "") -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.isprintable():
                raise ValueError(f"an artifact can't hold the name {entry.name!r}")
            if entry.is_symlink():
                raise ValueError(f"an artifact can't hold a link: {entry.name}")
            if entry.is_dir(follow_symlinks=False):
                yield from _names_in(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield f"{prefix}{entry.name}"
            else:  # a pipe, a device, a socket
                raise ValueError(f"an artifact can't hold a special file: {entry.name}")
