"""Atomic writes of small files, whatever ends the process that writes them."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any


def is_local(fs: Any) -> bool:
    """Whether an fsspec file system is the machine's own."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def write_whole(fs: Any, path: str, content: bytes) -> None:
    """Write a file of an fsspec file system; its folder must exist."""
    if is_local(fs):
        replace_file(Path(path), content)
    else:
        fs.pipe_file(path, content)  # object stores show an object once it is complete


def replace_file(path: Path, content: bytes) -> None:
    """Write a local file to a temporary name and rename it; readers see the old or the new one."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
