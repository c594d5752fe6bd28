"""The files of a checkpoint: a worker's shards, as torch's DCP writes them, with their sha256."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor

from ...recipe.errors import HoneError
from ...recipe.library_messages import telling
from ...runtimes.digest import file_digest

_DIGEST = ".sha256"


class ShardWriter(HuggingFaceStorageWriter):
    """Writes a worker's shards with their sha256.

    Args:
        fs: File system of the checkpoint.
        folder: Local folder to write to.
        final: The checkpoint's folder; if it is another one, files are copied there.
        commit: Called by the coordinator once every worker has written.
    """

    def __init__(self, fs: Any, folder: str, final: str, commit: Callable[[], None]) -> None:
        super().__init__(path=folder, save_distributed=True)
        self._checkpoint_fs = fs
        self._folder = Path(folder)
        self._final = final
        self._commit = commit

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Any:
        written = super().write_data(plan, planner)
        names = {result.storage_data.relative_path for result in written.wait()}
        fs, remote = self._checkpoint_fs, str(self._folder) != self._final
        for name in sorted(names):
            digest = self._folder / f"{name}{_DIGEST}"
            digest.write_text(file_digest(self._folder / name))
            if remote:
                fs.put_file(str(self._folder / name), f"{self._final}/{name}")
                fs.put_file(str(digest), f"{self._final}/{digest.name}")
        return written

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        self._commit()


def digests(fs: Any, path: str) -> dict[str, str]:
    """sha256 of each file of a checkpoint, as its writer noted it."""
    names = [str(p).rpartition("/")[2] for p in fs.ls(path, detail=False, refresh=True)]
    return {
        name.removesuffix(_DIGEST): fs.cat_file(f"{path}/{name}").decode()
        for name in names
        if name.endswith(_DIGEST)
    }


def first_failure(error: CheckpointException) -> Exception:
    """The error that a rank failed with; one of Hone's or of the file system, if any."""
    causes = [failure[0] for failure in error.failures.values()]
    causes += [c for cause in causes if (c := cause.__cause__ or cause.__context__) is not None]
    for kind in (HoneError, OSError, Exception):
        for cause in causes:
            if isinstance(cause, kind):
                return cause
    full = "No space left" in str(error)
    return OSError(errno.ENOSPC if full else errno.EIO, telling(error))


def described(metadata: Metadata) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Whole shape and type of each tensor in a checkpoint."""
    return {
        name: (value.size, value.properties.dtype)
        for name, value in metadata.state_dict_metadata.items()
        if isinstance(value, TensorStorageMetadata)
    }


def on_cpu(value: torch.Tensor) -> torch.Tensor:
    """A copy in CPU memory, with the same place in the whole."""
    if not isinstance(value, DTensor):
        return value.detach().to("cpu", copy=True)
    local = value.to_local().detach().to("cpu", copy=True)
    return DTensor.from_local(
        local,
        value.device_mesh,
        value.placements,
        run_check=False,
        shape=value.shape,
        stride=value.stride(),
    )
