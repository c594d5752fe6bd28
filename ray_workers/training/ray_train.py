"""Run the training loop under Ray Train, and say in its own words what a worker raised."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

from ...recipe.errors import HoneError, StepCrashed
from ..artifacts import Artifact
from ..workspace import Workspace, user_code
from .job import TrainJob


def fit(job: TrainJob, work: Workspace) -> None:
    """Train with the recipe's workers and wait.

    Args:
        job: What to train.
        work: Of the step that trains; its `report` travels to the workers.

    Raises:
        HoneError: What a worker raised.
        StepCrashed: A worker died.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    resources, workers = job.train.resources, job.train.mesh.workers
    each = {"CPU": resources.cpus}
    if resources.gpus:
        each["GPU"] = resources.gpus
    with tempfile.TemporaryDirectory(prefix="hone-ray-train-") as folder:
        trainer = TorchTrainer(
            _in_worker,
            train_loop_config={
                "job": job.model_dump(mode="json"),
                "report": work.report,
                "code": work.code.model_dump(mode="json") if work.code else None,
                "store": work.store_url,
                "cache": work.cache_url,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers,
                use_gpu=resources.gpus > 0,
                resources_per_worker=each,
                placement_strategy="PACK",
            ),
            run_config=ray.train.RunConfig(
                name="train",
                storage_path=folder,  # our own checkpoints go to the store
                failure_config=ray.train.FailureConfig(max_failures=0),
            ),
            torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        )
        try:
            trainer.fit()
        except ray.train.WorkerGroupError as error:
            raise _explained(error.worker_failures) from error
        except ray.exceptions.RayError as error:
            raise StepCrashed(f"Ray lost the training: {error}") from error


def _in_worker(config: dict[str, Any]) -> None:
    import torch

    from .loop import train_loop

    job = TrainJob.model_validate(config["job"])
    torch.set_num_threads(max(1, int(job.train.resources.cpus)))
    if job.train.resources.gpus:
        import ray.train.torch

        torch.cuda.set_device(ray.train.torch.get_device())
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    code = Artifact.model_validate(config["code"]) if config["code"] else None
    with user_code(code, config["store"], config["cache"]):
        train_loop(job, config["report"])


def _explained(failures: dict[int, Exception]) -> HoneError:
    """The error of the workers that says most: one of ours first, else a dead worker."""
    causes = [getattr(failure, "_base_exc", failure) for _, failure in sorted(failures.items())]
    for cause in causes:
        if isinstance(cause, HoneError):
            return cause
    for failure, cause in zip(failures.values(), causes, strict=False):
        if failure is not cause:  # raised by our code or the user's, not by Ray
            first = (str(cause).strip().splitlines() or [""])[0]
            return HoneError(f"{type(cause).__name__}: {first}", where=_last_place(str(failure)))
    ranks = ", ".join(str(rank) for rank in sorted(failures))
    return StepCrashed(f"the training worker of rank {ranks} died")


def _last_place(text: str) -> str | None:
    places = [line.strip() for line in text.splitlines() if line.strip().startswith("File ")]
    return places[-1] if places else None
