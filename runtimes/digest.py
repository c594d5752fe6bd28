"""The sha256 that identifies an artifact in the store, in the registry, and where it is served."""

from __future__ import annotations

import hashlib
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
        ValueError: The folder is empty, or holds a link.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ValueError(f"an artifact can't hold a link: {path.name}")
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = file_digest(path)
    if not files:
        raise ValueError("an artifact can't be empty")
    return files
