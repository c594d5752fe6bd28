"""The same workers under Ray Train's `TorchTrainer`, for clusters whose tooling expects it.

Checkpoints and recovery are the same as with plain actors. Ray Train starts the workers, sets up
the process group and shows the run in its dashboard.
"""

from __future__ import annotations

import logging

from ....recipe.errors import HoneError, StepCrashed
from ...scratch import scratch_folder
from .elastic import ray_resources
from .failures import says_most
from .worker import WorkerConfig, as_hone_error, backend, prepare, run_loop


def run(config: WorkerConfig, workers: int) -> None:
    """Train to the end, or until a worker is lost.

    Raises:
        StepCrashed: A worker died.
        HoneError: What a worker raised.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    resources = config.job.train.resources
    with scratch_folder("ray-train") as folder:
        trainer = TorchTrainer(
            _in_worker,
            train_loop_config={"config": config},
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers,
                use_gpu=resources.gpus > 0,
                resources_per_worker=ray_resources(resources),
                placement_strategy="PACK",
            ),
            run_config=ray.train.RunConfig(
                name="train",
                storage_path=folder,  # our own checkpoints go to the store
                failure_config=ray.train.FailureConfig(max_failures=0),
            ),
            torch_config=TorchConfig(
                backend=backend(resources),
            ),
        )
        try:
            trainer.fit()
        except ray.train.WorkerGroupError as error:
            raise _group_error(error.worker_failures) from error
        except ray.exceptions.RayError as error:
            raise StepCrashed(f"Ray lost the training: {error}") from error


def _in_worker(given: dict[str, WorkerConfig]) -> None:
    import ray.train.torch

    from ..loop import StopRequested

    config = given["config"]
    gpu = config.job.train.resources.gpus > 0
    prepare(config.job, ray.train.torch.get_device().index or 0 if gpu else 0)
    try:
        run_loop(config, StopRequested())
    except Exception as error:
        raise as_hone_error(error) from error


def _group_error(failures: dict[int, Exception]) -> HoneError:
    """What workers raised is ours, as `_in_worker` raises it; the others died."""
    causes = {rank: getattr(f, "_base_exc", f) for rank, f in sorted(failures.items())}
    ours = [cause for cause in causes.values() if isinstance(cause, HoneError)]
    dead = [str(rank) for rank, cause in causes.items() if not isinstance(cause, HoneError)]
    if dead:
        ours.append(StepCrashed(f"the training worker of rank {', '.join(dead)} died"))
    return says_most(ours)
