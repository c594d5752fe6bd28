"""Small files: written whole whatever ends the process that writes them, and read without links."""

from __future__ import annotations

import errno
import os
import shutil
import stat
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


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of a folder into another one, which is created.

    The first error is the system's, with its number; `shutil.copytree` goes on, and raises a list
    of texts.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir(exist_ok=True)
        else:
            shutil.copy2(path, to)


def read_regular(path: Path) -> bytes:
    """Read a local file that is neither a link nor a pipe, and not absurdly large.

    Raises:
        FileNotFoundError: There is no such file, or something else is there.
        OSError: It can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise FileNotFoundError(error.errno, "not a file", str(path)) from error
        raise
    with open(descriptor, "rb") as stream:
        said = os.fstat(descriptor)
        if not stat.S_ISREG(said.st_mode) or said.st_size > _LARGEST:
            raise FileNotFoundError(errno.ENOENT, "not a file of a sensible size", str(path))
        return stream.read()


_LARGEST = 256 * 2**20  # bytes
