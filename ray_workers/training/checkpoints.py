"""Checkpoints: the whole state of a training, each worker's shards in a safetensors file.

Written through torch's distributed checkpoint (DCP), so any mesh can read another mesh's: tensors
are identified by their name in the whole model and their place in it. A checkpoint is a folder in
the store. It is valid only once it has `committed.json`, which the coordinator writes last, with
the sha256 of the other files, signed with the training's key. Nothing in it is a pickle.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.tensor import DTensor

from ...recipe.errors import InputError, StoreError
from ...runtimes.digest import file_digest
from ..events import Metric
from ..scratch import scratch_folder
from ..store.artifacts import Store
from ..store.file_names import WEIGHTS
from ..store.seal import sealed, unsealed
from ..store.whole_files import is_local, write_whole
from .optimizer_state import OPTIMIZER, State
from .shard_files import ShardWriter, described, digests, first_failure, on_cpu

_COMMITTED = "committed.json"
_HISTORY = "history"
_STEP = re.compile(r"step-(\d+)-\w+$")
_HISTORY_NAME = re.compile(r"(\d{9,18})\.json")
_TENSORS = ".safetensors"
#: Prefixes of names in a checkpoint.
MODEL, EMA = "model/", "ema/"


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint.

    Attributes:
        step: Optimizer steps done.
        epoch: Epochs done.
        quality: On the validation split; None within an epoch.
        path: Its folder.
        files: sha256 of each file.
        rest: Other values of the training state, as plain data.
    """

    step: int
    epoch: int
    quality: float | None
    path: str
    files: dict[str, str] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


_RECORD, _METRICS = TypeAdapter(Checkpoint), TypeAdapter(list[Metric])


class Checkpoints:
    """The checkpoints of one training run, in one folder.

    Args:
        url: fsspec URL of the folder.
        higher_is_better: Direction of the quality.
        keep: How many of the newest to keep, besides the best.
        asynchronous: Whether `save` returns once the state is copied.
        key: Signs the records of checkpoints; empty: they are not signed, in a folder of one's own.
    """

    def __init__(
        self,
        url: str,
        higher_is_better: bool,
        keep: int = 1,
        asynchronous: bool = False,
        key: str = "",
    ) -> None:
        self._key = key.encode() if key else None
        self.url = url.rstrip("/")
        self.sign = 1 if higher_is_better else -1
        self.keep = keep
        self.asynchronous = asynchronous
        self.fs, self.root = fsspec.core.url_to_fs(self.url)
        self._local = is_local(self.fs)
        self._group: Any = None
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None
        self._copies: State = {}

    def open(self) -> None:
        """Prepare asynchronous saving; every worker calls it, once."""
        if dist.is_initialized():
            self._group = dist.new_group(backend="gloo")
        if self.asynchronous:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="hone-checkpoint")

    def close(self) -> None:
        """Wait for the last save."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def all(self) -> list[Checkpoint]:
        """The committed checkpoints, by step."""
        found: dict[int, Checkpoint] = {}
        with contextlib.suppress(FileNotFoundError):
            for path in self.fs.ls(self.root, detail=False, refresh=True):
                with contextlib.suppress(ValueError, OSError):
                    text = self.fs.cat_file(f"{path}/{_COMMITTED}")
                    said = unsealed(self._key, _name(path), text)
                    if said is not None:
                        made = _RECORD.validate_python({**said, "path": str(path)})
                        found[made.step] = made
        return [found[step] for step in sorted(found)]

    def best(self) -> Checkpoint | None:
        """The one with the best quality; the earliest of several."""
        judged = [c for c in self.all() if c.quality is not None]
        return max(judged, key=lambda c: (self.sign * (c.quality or 0.0), -c.step), default=None)

    def save(
        self, state: State, step: int, epoch: int, quality: float | None, rest: dict[str, Any]
    ) -> None:
        """Save this worker's part; every worker calls it.

        The call waits for the previous save, copies the state, and returns if saving is
        asynchronous.

        Args:
            state: This worker's tensors by their names in the whole.
            step: Optimizer steps done.
            epoch: Epochs done.
            quality: On the validation split, if it was measured now.
            rest: Plain values, the same on every worker.
        """
        self.wait()
        said = {"step": step, "epoch": epoch, "quality": quality, "rest": rest}
        token = [uuid.uuid4().hex[:8]]
        if dist.is_initialized():
            dist.broadcast_object_list(token)
        path = f"{self.root}/step-{step:09d}-{token[0]}"
        if self._thread is None:
            self._write(path, state, said)
        else:
            self._pending = self._thread.submit(self._write, path, self._copied(state), said)

    def wait(self) -> None:
        """Wait until the last save is committed.

        Raises:
            StoreError: It could not be written.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def latest(self) -> Checkpoint | None:
        """The newest one with intact files; every worker gets the same answer."""
        found: list[Checkpoint | None] = [None]
        if not dist.is_initialized() or dist.get_rank() == 0:
            with self._translate_os_errors("read a checkpoint"):
                found = [next((c for c in reversed(self.all()) if self._is_whole(c)), None)]
        if dist.is_initialized():
            dist.broadcast_object_list(found)
        return found[0]

    def names(self, checkpoint: Checkpoint) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Whole shape and type of each tensor in a checkpoint."""
        with self._at_hand(checkpoint) as folder:
            return described(HuggingFaceStorageReader(folder).read_metadata())

    def load(self, checkpoint: Checkpoint, state: State) -> None:
        """Load a checkpoint's tensors in place, by name, whichever mesh wrote it; every worker
        calls it.

        Raises:
            InputError: The checkpoint is of another model.
        """
        with self._at_hand(checkpoint) as folder:
            reader = HuggingFaceStorageReader(folder)
            known = described(reader.read_metadata())
            for name, value in state.items():
                if name not in known or known[name][0] != value.shape:
                    has = f"shape {tuple(known[name][0])}" if name in known else "none"
                    raise InputError(
                        f"the checkpoint belongs to another model: '{name}' has shape "
                        f"{tuple(value.shape)} here, and {has} there",
                        where=checkpoint.path,
                        do="delete the checkpoint, or train the model that it belongs to",
                    )
            dcp.load(
                state,
                storage_reader=reader,
                no_dist=not dist.is_initialized(),
                process_group=self._group,
            )

    def export(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Gather a checkpoint's whole weights into a file in a folder, in this process.

        If the training has an average of the weights, that is exported.

        Raises:
            StoreError: Its files are not those that were written.
        """
        if not self._is_whole(checkpoint):
            raise StoreError(
                "the best checkpoint is missing or corrupted",
                where=checkpoint.path,
                do="run again: training continues from an intact one",
            )
        with self._at_hand(checkpoint) as place:
            reader = HuggingFaceStorageReader(place)
            known = described(reader.read_metadata())
            state = {
                name: torch.empty(size, dtype=dtype)
                for name, (size, dtype) in known.items()
                if not name.startswith(OPTIMIZER)
            }
            dcp.load(state, storage_reader=reader, no_dist=True)
        weights = {k.removeprefix(MODEL): v for k, v in state.items() if k.startswith(MODEL)}
        weights |= {k.removeprefix(EMA): v for k, v in state.items() if k.startswith(EMA)}
        save_file({k: v.contiguous() for k, v in weights.items()}, str(folder / WEIGHTS))

    def add_history(self, step: int, metrics: list[Metric]) -> None:
        """Store the metrics since the last checkpoint, to send them again after a restart."""
        path = f"{self.root}/{_HISTORY}"
        with self._translate_os_errors("write a checkpoint"):
            self.fs.makedirs(path, exist_ok=True)
            name = f"{step:09d}.json"
            text = sealed(self._key, name, {"metrics": [asdict(metric) for metric in metrics]})
            write_whole(self.fs, f"{path}/{name}", text)

    def history(self, step: int) -> list[Metric]:
        """The metrics logged up to a step; later ones are dropped."""
        found: list[Metric] = []
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self.fs.ls(f"{self.root}/{_HISTORY}", detail=False)):
                said = unsealed(self._key, _name(path), self.fs.cat_file(path))
                number = _HISTORY_NAME.fullmatch(_name(path))
                if said is None or number is None:
                    continue
                if int(number[1]) > step:
                    self.fs.rm_file(path)
                    continue
                with contextlib.suppress(ValueError):
                    found += _METRICS.validate_python(said.get("metrics"))
        return found

    def _write(self, path: str, state: State, said: dict[str, Any]) -> None:
        with (
            scratch_folder("checkpoint") as aside,
            self._translate_os_errors("write a checkpoint"),
        ):
            folder = path if self._local else str(aside)
            writer = ShardWriter(self.fs, folder, path, lambda: self._commit(path, said))
            try:
                dcp.save(
                    dict(state),
                    storage_writer=writer,
                    no_dist=not dist.is_initialized(),
                    process_group=self._group,
                )
            except CheckpointException as error:  # a BaseException with each rank's own
                raise first_failure(error) from error

    def _copied(self, state: State) -> State:
        """Copies on the CPU, in reused buffers."""
        for name, value in state.items():
            local = value.to_local() if isinstance(value, DTensor) else value
            kept = self._copies.get(name)
            if kept is None or kept.shape != value.shape or type(kept) is not type(value):
                self._copies[name] = on_cpu(value)
                continue
            target = kept.to_local() if isinstance(kept, DTensor) else kept
            target.copy_(local, non_blocking=True)
        for name in set(self._copies) - set(state):
            del self._copies[name]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self._copies

    def _commit(self, path: str, said: dict[str, Any]) -> None:
        """The coordinator's last step, which makes the checkpoint valid."""
        text = sealed(self._key, _name(path), {**said, "files": digests(self.fs, path)})
        write_whole(self.fs, f"{path}/{_COMMITTED}", text)
        self._drop_old()

    def _drop_old(self) -> None:
        saved, best = self.all(), self.best()
        kept = {c.path for c in saved[-self.keep :]} | ({best.path} if best else set())
        newest = saved[-1].step if saved else 0
        for path in self.fs.ls(self.root, detail=False, refresh=True):
            step = _STEP.match(_name(path))
            if step is None or str(path) in kept:
                continue
            if int(step[1]) <= newest:  # torn ones too
                with contextlib.suppress(FileNotFoundError):
                    self.fs.rm(path, recursive=True)

    def _is_whole(self, checkpoint: Checkpoint) -> bool:
        """Whether its folder holds the listed tensors, all of them and no others."""
        try:
            found = {_name(p) for p in self.fs.ls(checkpoint.path, detail=False, refresh=True)}
        except OSError:
            return False
        if {name for name in found if name.endswith(_TENSORS)} != set(checkpoint.files):
            return False
        with scratch_folder("checkpoint") as aside:
            for name, digest in checkpoint.files.items():
                local = Path(checkpoint.path) / name
                try:
                    if not self._local:
                        local = Path(aside) / name
                        self.fs.get_file(f"{checkpoint.path}/{name}", str(local))
                    if file_digest(local) != digest:
                        return False
                except OSError:
                    return False
                if not self._local:
                    local.unlink()
        return True

    @contextlib.contextmanager
    def _at_hand(self, checkpoint: Checkpoint) -> Iterator[str]:
        """A local folder with a checkpoint's files."""
        if self._local:
            yield checkpoint.path
            return
        with scratch_folder("checkpoint") as aside:
            for name in checkpoint.files:
                self.fs.get_file(f"{checkpoint.path}/{name}", str(Path(aside) / name))
            yield str(aside)

    def _translate_os_errors(self, doing: str) -> Any:
        return Store(self.url, Path(tempfile.gettempdir())).translate_os_errors(doing)


def _name(path: Any) -> str:
    return str(path).rstrip("/").rpartition("/")[2]
