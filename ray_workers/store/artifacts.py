"""Artifacts: what steps pass to each other, content-addressed, in a store at any fsspec URL.

A folder of files is identified by the sha256 of the list of its files' sha256s. It is written to a
temporary name and renamed, or, if a store can't rename, written before the record that refers to
it; so no partial artifact is ever visible. It is verified before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from ...recipe.errors import StoreError
from ...recipe.strict import Strict
from ...runtimes.digest import digests_in, file_digest, tree_digest
from .whole_files import is_local, write_whole


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
    sha256: str
    bytes: int
    uri: str
    files: dict[str, str]


def safe_join(root: Path, relative: str) -> Path:
    """A path inside a folder.

    Raises:
        StoreError: The path is absolute or leads outside the folder.
    """
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts or "\\" in relative or not pure.parts:
        raise StoreError(f"the path {relative!r} leads out of its artifact", where=str(root))
    return root.joinpath(*pure.parts)


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
    """

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url.rstrip("/")
        self.cache = cache
        try:
            self.fs, self.root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise StoreError(str(error), where=f"HONE_STORE={url}") from None
        self.local = is_local(self.fs)

    def put(self, folder: Path, kind: str) -> Artifact:
        """Store a folder's files; the same content is stored once.

        Raises:
            StoreError: The store is full or can't be written.
        """
        artifact = describe(folder, kind, "")
        artifact = artifact.model_copy(update={"uri": f"{self.url}/artifacts/{artifact.sha256}"})
        with self.translate_os_errors("write", artifact.bytes):
            if self._is_whole(artifact):
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
            raise ArtifactCorrupted(
                f"the {artifact.kind} artifact {artifact.sha256[:12]} is missing or corrupted",
                where=f"HONE_STORE={self.url}",
                do="run again: it will be recomputed",
            )
        return folder

    def read_record(self, name: str) -> dict[str, Any] | None:
        """A JSON document written by `write_record`, or None if none can be read."""
        try:
            value = json.loads(self.fs.cat_file(f"{self.root}/{name}"))
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise StoreError(f"can't be read: {error}", where=f"{self.url}/{name}") from error
        return value if isinstance(value, dict) else None

    def write_record(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON document atomically."""
        text = json.dumps(value, indent=1, sort_keys=True).encode()
        path = f"{self.root}/{name}"
        with self.translate_os_errors("write", len(text)):
            self.fs.makedirs(os.path.dirname(path), exist_ok=True)
            write_whole(self.fs, path, text)

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
            free = ""
            if self.local and full:
                with contextlib.suppress(OSError):
                    free = f" ({shutil.disk_usage(self.root).free / 1e6:.1f} MB free"
                    free += f", {needed / 1e6:.1f} MB needed)" if needed else ")"
            what = f"no space left{free}" if full else f"can't {doing}: {error.strerror or error}"
            raise StoreError(
                f"the artifact store failed: {what}",
                where=self.url,
                do="free some space, or set HONE_STORE to another location"
                if full
                else "check HONE_STORE and its permissions",
            ) from error

    def _at(self, artifact: Artifact) -> str:
        return f"{self.root}/artifacts/{artifact.sha256}"

    def _is_whole(self, artifact: Artifact) -> bool:
        if self.local:
            return _matches(Path(self._at(artifact)), artifact)
        return all(self.fs.exists(f"{self._at(artifact)}/{name}") for name in artifact.files)

    def _put_local(self, folder: Path, artifact: Artifact) -> None:
        final = Path(self._at(artifact))
        final.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=final.parent))
        try:
            shutil.copytree(folder, aside, dirs_exist_ok=True)
            if final.exists():  # there, but corrupted
                final.rename(aside.with_name(aside.name + "-corrupted"))
                shutil.rmtree(aside.with_name(aside.name + "-corrupted"), ignore_errors=True)
            try:
                aside.rename(final)
            except OSError:
                if not _matches(final, artifact):  # else another process was first
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _download(self, artifact: Artifact, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=folder.parent))
        try:
            for relative in artifact.files:
                local = safe_join(aside, relative)
                local.parent.mkdir(parents=True, exist_ok=True)
                self.fs.get_file(f"{self._at(artifact)}/{relative}", str(local))
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                aside.rename(folder)
        except FileNotFoundError:
            pass  # `fetch` says so
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _matches(folder: Path, artifact: Artifact) -> bool:
    try:
        return all(
            file_digest(safe_join(folder, name)) == digest
            for name, digest in artifact.files.items()
        )
    except OSError:
        return False
