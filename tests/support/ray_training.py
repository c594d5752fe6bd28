"""Training on a real Ray cluster of several nodes, simulated by several raylets on one machine."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect_hone.ray_workers.cluster import LOCAL
from prefect_hone.ray_workers.events import Event, Metric, Note
from prefect_hone.ray_workers.ray_private import silence_lost_workers, without_unused_processes
from prefect_hone.ray_workers.store.artifacts import Store
from prefect_hone.ray_workers.training.job import TrainJob
from prefect_hone.ray_workers.training.launch.actors import fit
from prefect_hone.ray_workers.workspace import Workspace

PROJECT = Path(__file__).parent.parent / "project"
EXAMPLE = "prefect_hone.recipe.examples.charlm"


def charlm_job(checkpoints: Path, **train: Any) -> TrainJob:
    """A small character model on a little text, 10 steps an epoch, slow enough to interfere."""
    return TrainJob.model_validate(
        {
            "model": {
                "factory": f"{EXAMPLE}.charlm_model:charlm",
                "args": {"channels": 16, "heads": 4, "layers": 2, "length": 16},
            },
            "data": {"factory": "charlm_slow:slow"},
            "train": {
                "epochs": 2, "batch_size": 32, "deterministic": True,
                "optimizer": {"name": "adamw", "lr": 0.003}, **train,
            },
            "metric": "bits_per_token",
            "higher_is_better": False,
            "allowed": {"prefixes": ["prefect_hone.recipe.examples"], "modules": ["charlm_slow"]},
            "checkpoints": str(checkpoints),
        }
    )  # fmt: skip


class Training:
    """A `fit` in a thread.

    Attributes:
        events: What it told so far.
        error: What it raised.
    """

    def __init__(self, job: TrainJob, code: Any = None, store: str | None = None) -> None:
        import ray
        from prefect_hone.ray_workers.channel import open_channel, reporter

        self._ray = ray
        self._channel = open_channel()
        self.events: list[Event] = []
        self.error: BaseException | None = None
        self._finished = False
        self._folder = tempfile.TemporaryDirectory(prefix="hone-test-", ignore_cleanup_errors=True)
        folder = self._folder.name  # removed with this object
        self._work = Workspace(
            spec={}, inputs={}, scratch=Path(folder), report=reporter(self._channel, "train"),
            allowed=job.allowed, store_url=store or f"{folder}/store", cache_url=f"{folder}/cache", key="train",
            code=code,
        )  # fmt: skip
        self._job = job
        self._thread = threading.Thread(target=self._fit, daemon=True)
        self._thread.start()

    def _fit(self) -> None:
        try:
            fit(self._job, self._work)
        except BaseException as error:
            self.error = error

    def drain(self) -> list[Event]:
        if not self._finished:
            self.events += self._ray.get(self._channel.drain.remote("train"))
        return self.events

    def wait_for(
        self, *, step: int | None = None, text: str | None = None, seconds: float = 300
    ) -> None:
        """Until a step was told, or a note with a text in it."""
        import time

        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for event in self.drain():
                if isinstance(event, Metric):
                    if step is not None and event.name == "train/loss" and event.step >= step:
                        return
                elif text is not None and text in getattr(event, "text", ""):
                    return
            if not self._thread.is_alive():
                break
            time.sleep(0.05)
        raise AssertionError(f"did not come; told: {self.notes()}; raised: {self.error!r}")

    def finish(self, seconds: float = 180) -> list[Event]:
        """Wait for the end; raises what the training raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"still trains; told: {self.notes()}"
        self.drain()
        self._finished = True
        if self.error is not None:
            raise self.error
        return self.events

    def notes(self) -> list[str]:
        return [e.text for e in self.drain() if isinstance(e, Note)]

    def curve(self, name: str = "train/loss") -> dict[int, float]:
        """A metric by step; the last value told counts, as it does in MLflow's journal."""
        return {e.step: e.value for e in self.drain() if isinstance(e, Metric) and e.name == name}


def train_project(job: TrainJob, folder: Path) -> Training:
    """Train with the test project's modules as the recipe's code folder."""
    code = folder / "code"
    if not code.exists():
        shutil.copytree(PROJECT, code, ignore=shutil.ignore_patterns("__pycache__", "*.yaml"))
    store = Store(str(folder / "store"), folder / "cache")
    return Training(job, code=store.put(code, "code"), store=str(folder / "store"))


@contextlib.contextmanager
def cluster(*nodes: int) -> Iterator[Any]:
    """A Ray cluster with nodes of so many CPUs, this process its driver."""
    import ray
    from ray.cluster_utils import Cluster

    with without_unused_processes():
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": nodes[0], "object_store_memory": 100 * 2**20,
                            "include_dashboard": False, "_system_config": dict(LOCAL)},
        )  # fmt: skip
        try:
            for cpus in nodes[1:]:
                made.add_node(num_cpus=cpus, object_store_memory=100 * 2**20)
            ray.init(address=made.address, log_to_driver=False, logging_level="error")
            silence_lost_workers()
            yield made
        finally:
            ray.shutdown()
            made.shutdown()
