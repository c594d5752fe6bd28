"""What a training worker does, under either launcher: it sets up threads, device and the user's
code, runs the loop, and explains errors.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....recipe.errors import HoneError, StepCrashed
from ....recipe.factories import unexpected
from ....recipe.library_messages import telling
from ....recipe.training import Resources
from ...data.shared_data import received
from ...events import Report
from ...scratch import private_caches
from ...store.artifacts import Artifact
from ...user_warnings import told_warnings
from ...worker_death import reader_died
from ...workspace import user_code
from ..job import TrainJob

if TYPE_CHECKING:
    from ...data.split_format import Feed
    from ..loop import StopRequested


@dataclass(frozen=True)
class WorkerConfig:
    """What is sent to every worker.

    Attributes:
        job: What to train.
        report: Sends an event.
        code: The recipe's code folder as an artifact.
        store: URL of the store.
        cache: Local folder for artifacts of a remote store.
        feed: Access to a streamed train split, if it is one.
        data: A reference to the data, if they are sent (`shared_data.py`).
    """

    job: TrainJob
    report: Report
    code: Artifact | None
    store: str
    cache: str
    feed: Feed | None = None
    data: Any = None


def backend(resources: Resources) -> str:
    """The process group's backend; CPU tensors, such as those of checkpoints, use gloo."""
    return "cpu:gloo,cuda:nccl" if resources.gpus > 0 else "gloo"


def prepare(job: TrainJob, gpu: int) -> None:
    """Set the threads and the device that the recipe gives each worker.

    Args:
        job: What to train.
        gpu: Index of this worker's GPU among those that it sees.
    """
    import torch

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    private_caches()
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    torch.set_num_threads(max(1, int(job.train.resources.cpus)))
    if job.train.resources.gpus > 0:
        torch.cuda.set_device(gpu)


def run_loop(config: WorkerConfig, stop: StopRequested) -> None:
    """Run the loop in the current process group."""
    import torch.distributed as dist

    from ..loop import train_loop

    with user_code(config.code, config.store, config.cache, config.job.allowed):
        data = received(config.data)
        first = not dist.is_initialized() or dist.get_rank() == 0
        told = told_warnings(config.report, config.job.allowed)
        with told if first else contextlib.nullcontext():
            train_loop(config.job, config.report, stop, feed=config.feed, data=data)


def as_hone_error(error: Exception) -> HoneError:
    """An exception from the user's code or due to a lost neighbor, as Hone's error."""
    import torch.distributed as dist

    if isinstance(error, HoneError):
        return error
    if "DataLoader worker" in str(error):  # torch raises it wherever the main thread is
        return reader_died()
    if isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST):
        said = telling(error).rstrip(".")
        return StepCrashed(f"the connection to another worker was lost ({said})")
    return unexpected(error)


_LOST = (
    "Connection closed by peer",
    "Connection reset",
    "Broken pipe",
    "recvBytes",
    "Timed out",
)


def config_of(job: TrainJob, work: Any, feed: Any, data: Any = None) -> WorkerConfig:
    """From the step's workspace."""
    return WorkerConfig(job, work.report, work.code, work.store_url, work.cache_url, feed, data)
