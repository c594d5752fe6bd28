"""Signatures of what the store says about its artifacts, with a key that only its owner has.

Whoever can write to a store can put any bytes there. Artifacts are identified by their digest, and
records (which result belongs to which key, with its measurements) are signed: HMAC-SHA256 over the
record's name and content. A record without a valid signature counts as none.

The process that runs the flow holds the key and writes all records. Workers never get it. A
training gets a key of its own for its checkpoints, from which the owner's can't be derived.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Any

from ...recipe.errors import InputError, StoreError
from ...runtimes.child_environment import empty

KEY_VARIABLE, KEY_FILE_VARIABLE = "HONE_STORE_KEY", "HONE_STORE_KEY_FILE"
_FILE = "store.key"
_FEWEST = 32  # bytes of a key
_MOST = 64 * 1024
_SIGNATURE = "signature"


def sealed(key: bytes | None, name: str, value: dict[str, Any]) -> bytes:
    """A record as a JSON document, signed.

    Args:
        key: Of the owner; None: it is not signed.
        name: Of the record, so that it can't be passed off as another one.
        value: What it says.
    """
    said = {**value, _SIGNATURE: _sign(key, name, value)} if key is not None else value
    return json.dumps(said, indent=1, sort_keys=True).encode()


def unsealed(key: bytes | None, name: str, document: bytes) -> dict[str, Any] | None:
    """What a record says; None if it can't be read, or has no valid signature.

    Args:
        key: Of the owner; None: signatures are not looked at.
        name: Of the record.
        document: What `sealed` returned.
    """
    try:
        said = json.loads(document)
        if not isinstance(said, dict):
            return None
        signature = said.pop(_SIGNATURE, None)
        if key is None:
            return said
        good = isinstance(signature, str) and hmac.compare_digest(
            signature.encode(), _sign(key, name, said).encode()
        )
    except (ValueError, RecursionError):  # not JSON, or made to exhaust its parser
        return None
    return said if good else None


def _sign(key: bytes, name: str, value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, f"hone record\0{name}\0{text}".encode(), hashlib.sha256).hexdigest()


class OwnerKey:
    """The key of a store's owner.

    `HONE_STORE_KEY` or the file that `HONE_STORE_KEY_FILE` names, for a team that shares a store;
    else `HONE_HOME/store.key`, which is created at its first use.

    Args:
        home: `HONE_HOME`.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / _FILE
        self._found: bytes | None = None

    def existing(self) -> bytes | None:
        """The key; None if there is none yet, so that nothing can have been signed.

        Raises:
            InputError: The environment names a key that can't be used.
            StoreError: The key file can't be read, or belongs to another user.
        """
        if self._found is None:
            self._found = _from_environment() or self._read()
        return self._found

    def get(self) -> bytes:
        """The key, created if there is none yet.

        Raises:
            InputError: The environment names a key that can't be used.
            StoreError: The key file can't be read or written, or belongs to another user.
        """
        if self.existing() is None:
            self._create()
            self._found = self._read()
        assert self._found is not None  # noqa: S101 (narrows a type)
        return self._found

    def derived(self, purpose: str) -> str:
        """A key for one purpose, which doesn't reveal this one."""
        text = f"hone key\0{purpose}".encode()
        return hmac.new(self.get(), text, hashlib.sha256).hexdigest()

    def _read(self) -> bytes | None:
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        with open(descriptor, "rb") as stream:
            said = os.fstat(descriptor)
            if not stat.S_ISREG(said.st_mode):
                raise self._unusable("it is not a file")
            if said.st_uid != os.geteuid():
                raise self._unusable("it belongs to another user")
            if said.st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
            key = stream.read(_MOST)
        if len(key) < _FEWEST:
            raise self._unusable("it is too short")
        return key

    def _create(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, aside = tempfile.mkstemp(prefix=f".{_FILE}-", dir=self._file.parent)  # 0600
            try:
                with open(descriptor, "wb") as stream:
                    stream.write(secrets.token_bytes(_FEWEST))
                _keep_first(aside, self._file)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(aside)
        except OSError as error:
            raise StoreError(
                f"the key that signs results can't be written: {error.strerror or error}",
                where=str(self._file),
                do="free some space, or set HONE_HOME to a folder that you can write to",
            ) from error

    def _unusable(self, why: str) -> StoreError:
        return StoreError(
            f"the key that signs results can't be used: {why}",
            where=str(self._file),
            do="remove it: a new one is created, and kept results are computed again",
        )


def _keep_first(aside: str, final: Path) -> None:
    """Give a file its name, unless another process was first."""
    try:
        os.link(aside, final)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not final.exists():
            os.rename(aside, final)


_taken: bytes | None = None


def _from_environment() -> bytes | None:
    """The key that the environment names; None if it names none.

    The variable with the key itself is emptied in this process's environment, so that the
    processes that it starts, Ray's workers among them, don't inherit the key.
    """
    global _taken
    given = os.environ.get(KEY_VARIABLE)
    empty(KEY_VARIABLE)
    if given:
        _taken = _long_enough(given.encode(), KEY_VARIABLE)
    if _taken is not None:
        return _taken
    path = os.environ.get(KEY_FILE_VARIABLE)
    if not path:
        return None
    where = f"{KEY_FILE_VARIABLE}={path}"
    try:
        place = Path(path).expanduser()
        if not place.is_file():
            raise InputError("there is no such file", where=where, do=_MAKE)
        with place.open("rb") as stream:
            return _long_enough(stream.read(_MOST).strip(), where)
    except OSError as error:
        raise InputError(
            f"the key can't be read: {error.strerror or error}", where=where, do=_MAKE
        ) from error


_MAKE = "`python -c 'import secrets; print(secrets.token_hex(32))'` prints a new key"


def _long_enough(key: bytes, where: str) -> bytes:
    if len(key) < _FEWEST:
        raise InputError(f"a key has at least {_FEWEST} characters", where=where, do=_MAKE)
    return key
