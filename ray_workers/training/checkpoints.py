"""Checkpoints: weights as safetensors, the rest as tensors and plain values.

A checkpoint is a folder of the store that counts only once `committed.json` is in it, which is
written last and holds the sha256 of the other files. Loading runs no pickled code
(`weights_only=True`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import torch
from safetensors.torch import load_model, save_model

from ..artifacts import Store, file_digest

WEIGHTS = "model.safetensors"
_REST = "training.pt"
_COMMITTED = "committed.json"


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: the epoch after which it was made, and its validation quality."""

    epoch: int
    quality: float
    path: str


class Checkpoints:
    """The checkpoints of one training run.

    Args:
        url: fsspec URL of their folder.
        higher_is_better: Which way the quality is good.
    """

    def __init__(self, url: str, higher_is_better: bool) -> None:
        self.url = url.rstrip("/")
        self.sign = 1 if higher_is_better else -1
        self.fs, self.root = fsspec.core.url_to_fs(self.url)

    def all(self) -> list[Checkpoint]:
        """Those that are committed, by epoch."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.fs.ls(self.root, detail=False, refresh=True):
                with contextlib.suppress(
                    FileNotFoundError, ValueError, KeyError, NotADirectoryError
                ):
                    said = json.loads(self.fs.cat_file(f"{path}/{_COMMITTED}"))
                    found.append(Checkpoint(said["epoch"], said["quality"], str(path)))
        return sorted(found, key=lambda checkpoint: checkpoint.epoch)

    def best(self) -> Checkpoint | None:
        """The one of the best quality; of several, the earliest."""
        return max(self.all(), key=lambda c: (self.sign * c.quality, -c.epoch), default=None)

    def save(self, epoch: int, quality: float, model: Any, rest: dict[str, Any]) -> None:
        """Write a checkpoint, then drop all but the last and the best."""
        path = f"{self.root}/epoch-{epoch:06d}"
        with (
            tempfile.TemporaryDirectory(prefix="hone-checkpoint-") as folder,
            Store(self.url, Path(folder)).explained("write a checkpoint"),
        ):
            local = Path(folder)
            save_model(model, str(local / WEIGHTS))
            torch.save(rest, local / _REST)
            digests = {name: file_digest(local / name) for name in (WEIGHTS, _REST)}
            self.fs.makedirs(path, exist_ok=True)
            for name in digests:
                self.fs.put_file(str(local / name), f"{path}/{name}")
            said = {"epoch": epoch, "quality": quality, "files": digests}
            self._write_whole(f"{path}/{_COMMITTED}", json.dumps(said).encode())
        best = self.best()
        for old in self.all()[:-1]:
            if best is None or old.epoch != best.epoch:
                self.fs.rm(old.path, recursive=True)

    def load_latest(self, model: Any) -> dict[str, Any] | None:
        """Put the weights of the last whole checkpoint into a model; return the rest, or None."""
        for checkpoint in reversed(self.all()):
            with tempfile.TemporaryDirectory(prefix="hone-checkpoint-") as folder:
                if not self._download(checkpoint, Path(folder)):
                    continue
                load_model(model, str(Path(folder) / WEIGHTS))
                rest = (Path(folder) / _REST).read_bytes()
                state: dict[str, Any] = torch.load(
                    io.BytesIO(rest), weights_only=True, map_location="cpu"
                )
                return state
        return None

    def export_best(self, folder: Path) -> Checkpoint | None:
        """Copy the best checkpoint's weights into a folder."""
        best = self.best()
        if best is not None:
            self.fs.get_file(f"{best.path}/{WEIGHTS}", str(folder / WEIGHTS))
        return best

    def _download(self, checkpoint: Checkpoint, folder: Path) -> bool:
        said = json.loads(self.fs.cat_file(f"{checkpoint.path}/{_COMMITTED}"))
        try:
            for name in (WEIGHTS, _REST):
                self.fs.get_file(f"{checkpoint.path}/{name}", str(folder / name))
                if file_digest(folder / name) != said["files"][name]:
                    return False
        except FileNotFoundError:
            return False
        return True

    def _write_whole(self, path: str, content: bytes) -> None:
        if "file" in self.fs.protocol:
            Path(f"{path}.tmp").write_bytes(content)
            os.replace(f"{path}.tmp", path)
        else:
            self.fs.pipe_file(path, content)
