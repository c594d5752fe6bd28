"""Files that a recipe names, opened so that a name can't be more than a file of bytes.

A device, a pipe or a link in the place of a file is refused before it is read, and copies are
private to the user.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import InputError

_MOST_FILES = 10_000
_SECRETS = (
    ".env*", "*.env", "*.jks", "*.kdbx", "*.key", "*.keystore", "*.keytab", "*.p12", "*.pem",
    "*.pfx", "*.ppk", "*.token", "credential*", "htpasswd*", "id_dsa*", "id_ecdsa*", "id_ed25519*",
    "id_rsa*", "kubeconfig*", "netrc", "passwd*", "password*", "secret", "secrets*", "secret.*",
    "service-account*.json", "service_account*.json", "shadow", "token", "token.json", "token.txt",
)  # fmt: skip


def looks_secret(name: str) -> bool:
    """Whether a file's or folder's name is one that keys and passwords have."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in _SECRETS)


def open_regular(path: Path, where: str) -> BinaryIO:
    """Open a file for reading that is neither a link, a device nor a pipe.

    Args:
        path: The file; a link that may be followed is resolved by the caller.
        where: The field, and what it says.

    Raises:
        InputError: It is no such file, or can't be read.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # opening a device may already do something
            raise _no_file(path, where)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"it can't be read: {said}", where=where) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path, where)
    return os.fdopen(descriptor, "rb")


def copy_regular(path: Path, target: Path, where: str) -> None:
    """Copy a file, as `open_regular` opens it, to a new one that only this user can read.

    Raises:
        InputError: It is no such file, or can't be read.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_regular(path, where) as source:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)


def files_in(folder: Path, where: str) -> dict[str, Path]:
    """The files of a model's folder by relative path, each with the path to open.

    Hidden files and those with names of keys are left out. A link is followed if it stays inside;
    in a Hugging Face cache, where snapshots are links, also into the repository's `blobs`.

    Args:
        folder: The folder, without links in its path.
        where: The field, and what it says.

    Raises:
        InputError: A link leads out of the folder, something is no file, or there are too many.
    """
    found: dict[str, Path] = {}
    blobs = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else None
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and not looks_secret(n))
        for name in [*folders, *sorted(names)]:
            path = Path(here, name)
            if name.startswith(".") or looks_secret(name):
                continue
            real = path.resolve() if path.is_symlink() else path
            if not real.is_relative_to(folder) and not (blobs and real.is_relative_to(blobs)):
                raise InputError(
                    f"'{path.relative_to(folder)}' is a link that leads out of the folder",
                    where=where,
                    do="put the file itself there",
                )
            if name not in folders and not real.is_dir():  # what a link names is there itself
                if not real.is_file():
                    raise _no_file(path.relative_to(folder), where)
                found[path.relative_to(folder).as_posix()] = real
        if len(found) > _MOST_FILES:
            raise InputError(
                f"the folder holds more than {_MOST_FILES:,} files", where=where,
                do="give a folder with one model",
            )  # fmt: skip
    return found


def _no_file(path: Path, where: str) -> InputError:
    return InputError(f"'{path.name}' is not a regular file", where=where, do="give a file")
