"""Artifacts: what steps pass to each other, content-addressed, in a store at any fsspec URL.

A folder of files is identified by the sha256 of the list of its files' sha256s. It is written to a
temporary name and renamed, or, if a store can't rename, written before the record that refers to
it; so no partial artifact is ever visible. Before it is used it is verified: the folder holds the
listed files, all of them and no others, and no links. Records are signed (`seal.py`).
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import fsspec
from pydantic import Field, StringConstraints, model_validator

from ...recipe.errors import StoreError
from ...recipe.showable import showable
from ...recipe.strict import Strict, mistake
from ...runtimes.digest import digests_in, tree_digest
from .asides import aside_in
from .seal import OwnerKey, sealed, unsealed
from .whole_files import copy_files, is_local, read_regular, write_whole

#: A sha256 in hexadecimal, and nothing that could be a path.
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ArtifactCorrupted(StoreError):
    """An artifact's bytes differ from those that were written."""


class Artifact(Strict):
    """A folder of files with one sha256.

    Attributes:
        kind: What is in it (`weights`, `onnx`, `openvino`, ...).
        sha256: Of the sorted list of relative paths and file digests.
        bytes: Size of all files together.
        uri: Its location in the store.
        files: sha256 of each file by its relative path.
    """

    kind: str
    sha256: Digest
    bytes: int
    uri: str
    files: dict[str, Digest] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for name in self.files:
            if not _stays_inside(name):
                raise mistake("path", "the path {path} leads out of its artifact", path=repr(name))
        if tree_digest(self.files) != self.sha256:
            raise mistake("digest", "the digest of an artifact is not that of its files")
        return self


def _stays_inside(relative: str) -> bool:
    pure = PurePosixPath(relative)
    return (
        relative == str(pure)  # one way to write each path: no `a//b`, no `./a`
        and relative not in ("", ".")
        and relative.isprintable()
        and "\\" not in relative
        and not pure.is_absolute()
        and ".." not in pure.parts
    )


_KEPT = re.compile(r"(?P<root>.*/artifacts/(?P<digest>[0-9a-f]{64}))(/.*)?")
#: Free space that files may take beyond their sizes (bytes): the rest of their last blocks.
_BLOCKS = 2**20


def verify_kept(given: str, folder: Path | None = None) -> None:
    """Verify the artifact that a path in a store belongs to; any other path is let through.

    Args:
        given: A path or URL.
        folder: A local folder with the artifact's files; None: the one that the path is in.

    Raises:
        ArtifactCorrupted: Its files are not those that its name is the digest of.
    """
    kept = _KEPT.fullmatch(given)
    if kept is None:
        return
    place = folder if folder is not None else Path(kept["root"])
    try:
        if not place.is_symlink() and tree_digest(digests_in(place)) == kept["digest"]:
            return
    except (OSError, ValueError, RecursionError):
        pass
    raise ArtifactCorrupted(
        "the kept copy of the model's files is missing or corrupted",
        where=kept["root"],
        do="remove it and run again: the files are copied anew",
    )


def safe_join(root: Path, relative: str) -> Path:
    """A path inside a folder.

    Raises:
        StoreError: The path is absolute or leads outside the folder.
    """
    if not _stays_inside(relative):
        raise StoreError(f"the path {relative!r} leads out of its artifact", where=str(root))
    return root / relative


def describe(folder: Path, kind: str, uri: str) -> Artifact:
    """The artifact that a local folder holds.

    Raises:
        StoreError: It is empty, or holds a link.
    """
    try:
        files = digests_in(folder)
    except ValueError as error:
        raise StoreError(str(error), where=str(folder)) from None
    size = sum((folder / name).stat().st_size for name in files)
    return Artifact(kind=kind, sha256=tree_digest(files), bytes=size, uri=uri, files=files)


class Store:
    """Artifacts and step records under one URL.

    Args:
        url: Any fsspec URL or a local path, with `artifacts/`, `steps/` and `training/` under it.
        cache: Local folder for artifacts of a remote store.
        key: Of the store's owner; None in workers, which neither read nor write records.

    Attributes:
        refused: Names of the records that were read and had no valid signature.
    """

    def __init__(self, url: str, cache: Path, key: OwnerKey | None = None) -> None:
        self.url = url.rstrip("/")
        self.shown = showable(self.url) if "://" in self.url else self.url
        self.cache = cache
        self.refused: set[str] = set()
        self._key = key
        try:
            self.fs, self.root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise StoreError(str(error), where=f"HONE_STORE={url}") from None
        self.local = is_local(self.fs)

    @property
    def secrets(self) -> dict[str, str]:
        """The store's URL by what records have in its place, if it has credentials."""
        return {} if self.shown == self.url else {self.shown: self.url}

    def put(self, folder: Path, kind: str) -> Artifact:
        """Store a folder's files; the same content is stored once.

        Raises:
            StoreError: The store is full or can't be written.
        """
        artifact = self.located(describe(folder, kind, ""))
        with self.translate_os_errors("write", artifact.bytes):
            if self.holds(artifact):
                return artifact
            if self.local:
                self._put_local(folder, artifact)
            else:
                for relative in artifact.files:
                    self.fs.put_file(str(folder / relative), f"{self._at(artifact)}/{relative}")
        return artifact

    def fetch(self, artifact: Artifact) -> Path:
        """A local folder with the artifact's files, verified; it must not be written to.

        Raises:
            ArtifactCorrupted: The bytes are missing, or differ from those that were written.
        """
        if self.local:
            folder = Path(self._at(artifact))
        else:
            folder = self.cache / artifact.sha256
            if not _matches(folder, artifact):
                self._download(artifact, folder)
        if not _matches(folder, artifact):
            self._drop(artifact)
            raise ArtifactCorrupted(
                f"the {artifact.kind} artifact {artifact.sha256[:12]} is missing or corrupted",
                where=f"HONE_STORE={self.url}",
                do="run again: it will be recomputed",
            )
        return folder

    def located(self, artifact: Artifact) -> Artifact:
        """The artifact with its location in this store, whatever was said of it."""
        return artifact.model_copy(update={"uri": f"{self.shown}/artifacts/{artifact.sha256}"})

    def read_record(self, name: str) -> dict[str, Any] | None:
        """What `write_record` wrote; None if there is nothing, or nothing with a valid signature.

        Raises:
            StoreError: The store, or the key of its owner, can't be read.
        """
        path = f"{self.root}/{name}"
        try:
            document = read_regular(Path(path)) if self.local else self.fs.cat_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"can't be read: {error}", where=f"{self.url}/{name}") from error
        key = self._owner().existing()
        value = None if key is None else unsealed(key, name, document)
        if value is None:
            self.refused.add(name)
        return value

    def recorded_outputs(self, key: str) -> dict[str, str] | None:
        """sha256 of each output of the step with a key, as its signed record has it.

        Args:
            key: The cache key (sha256 in hexadecimal).

        Returns:
            None if there is no record, or none with a valid signature.

        Raises:
            StoreError: The store, or the key of its owner, can't be read.
        """
        with self.translate_os_errors("be read"):
            found = self.fs.glob(f"{glob.escape(self.root)}/steps/*/{key}.json")
        for path in found:
            step = PurePosixPath(str(path)).parent.name
            said = self.read_record(f"steps/{step}/{key}.json")
            outputs = None if said is None else said.get("outputs")
            if isinstance(outputs, dict):
                return {str(n): str(a.get("sha256")) for n, a in outputs.items()}
        return None

    def digest_now(self, sha256: str) -> str | None:
        """The digest of what a local store holds in the place of an artifact.

        Returns:
            None if there is nothing; empty if it can't be an artifact.
        """
        folder = Path(self.root) / "artifacts" / sha256
        if not os.path.lexists(folder):
            return None
        try:
            return "" if folder.is_symlink() else tree_digest(digests_in(folder))
        except (OSError, ValueError, RecursionError):
            return ""

    def write_record(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON document atomically, signed."""
        text = sealed(self._owner().get(), name, value)
        path = f"{self.root}/{name}"
        with self.translate_os_errors("write", len(text)):
            self.fs.makedirs(os.path.dirname(path), exist_ok=True)
            write_whole(self.fs, path, text)

    def key_for(self, purpose: str) -> str:
        """A key for one purpose, which doesn't reveal the owner's."""
        return self._owner().derived(purpose)

    def _owner(self) -> OwnerKey:
        if self._key is None:
            raise ValueError("records are for the process that has the owner's key")
        return self._key

    def try_out(self, name: str) -> None:
        """Write a file, read it and remove it.

        Raises:
            StoreError: One of these is not possible.
        """
        path = f"{self.root}/{name}"
        with self.translate_os_errors("be used"):
            self.fs.makedirs(os.path.dirname(path), exist_ok=True)
            write_whole(self.fs, path, b"{}")
            self.fs.cat_file(path)
            self.fs.rm_file(path)

    def mark_used(self, name: str) -> None:
        """Make a record of a local store young again, for those who remove what is old."""
        if self.local:
            with contextlib.suppress(OSError):
                os.utime(f"{self.root}/{name}")

    def delete_record(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.root}/{name}")

    @contextlib.contextmanager
    def translate_os_errors(self, doing: str, needed: int = 0) -> Iterator[None]:
        """Convert errors of the file system to a StoreError that says what to do."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = (
                f"no space left{self._room(needed) if error.errno == errno.ENOSPC else ''}"
                if full
                else f"can't {doing}: {error.strerror or error}"
            )
            raise StoreError(
                f"the artifact store failed: {what}",
                where=self.url,
                do="free some space, or set HONE_STORE to another location"
                if full
                else "check HONE_STORE and its permissions",
            ) from error

    def _room(self, needed: int) -> str:
        """What a full disk lacks, in parentheses; empty if unknown."""
        if self.local:
            with contextlib.suppress(OSError):
                said = os.statvfs(self.root)
                free = said.f_bavail * said.f_frsize
                # What was written is removed already: then inodes are free again.
                if said.f_files and (not said.f_favail or free > needed + _BLOCKS):
                    return " (too few inodes are free)"
                has = f"{free / 1e6:.1f} MB free"
                return f" ({has}, {needed / 1e6:.1f} MB needed)" if needed else f" ({has})"
        return ""

    def _at(self, artifact: Artifact) -> str:
        return f"{self.root}/artifacts/{artifact.sha256}"

    def holds(self, artifact: Artifact) -> bool:
        """Whether it is there: verified in a local store, by its names in a remote one."""
        if self.local:
            return _matches(Path(self._at(artifact)), artifact)
        return all(self.fs.exists(f"{self._at(artifact)}/{name}") for name in artifact.files)

    def _drop(self, artifact: Artifact) -> None:
        """Remove a corrupted artifact of a remote store, where `put` can't see that it is."""
        if not self.local:
            with contextlib.suppress(OSError):
                self.fs.rm(self._at(artifact), recursive=True)

    def _put_local(self, folder: Path, artifact: Artifact) -> None:
        final = Path(self._at(artifact))
        with aside_in(final.parent) as aside:
            copy_files(folder, aside)
            shutil.copymode(final.parent, aside)  # readable for those who may read the store
            if os.path.lexists(final):  # there, but corrupted
                _remove(final.rename(aside.with_name(aside.name + "-corrupted")))
            try:
                aside.rename(final)
            except OSError:
                if not _matches(final, artifact):  # else another process was first
                    raise

    def _download(self, artifact: Artifact, folder: Path) -> None:
        with aside_in(folder.parent) as aside, contextlib.suppress(FileNotFoundError):
            for relative in artifact.files:
                local = safe_join(aside, relative)
                local.parent.mkdir(parents=True, exist_ok=True)
                self.fs.get_file(f"{self._at(artifact)}/{relative}", str(local))
            _remove(folder)
            with contextlib.suppress(OSError):
                aside.rename(folder)


def _remove(path: Path) -> None:
    """Remove a folder, or the link or file that is in its place."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _matches(folder: Path, artifact: Artifact) -> bool:
    """Whether a folder holds the artifact's files, all of them and no others."""
    try:
        return not folder.is_symlink() and digests_in(folder) == artifact.files
    except (OSError, ValueError, RecursionError):
        return False
