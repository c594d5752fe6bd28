"""The same loop under plain torch.distributed:

torchrun --nproc-per-node 2 -m prefect_hone.ray_workers.training RECIPE CHECKPOINTS
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from ...recipe.errors import HoneError
from ...recipe.factories import Allowed, use_code
from ...recipe.load import find_recipe, load_recipe
from ..events import EpochEnd, Event, Note
from .job import TrainJob
from .launch.worker import backend
from .loop import StopRequested, train_loop


def main(arguments: list[str]) -> int:
    """Train a recipe's model; checkpoints go to a folder of any fsspec URL."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 2
    recipe = load_recipe(arguments[0], arguments[2:])
    code = None
    if recipe.code is not None:
        code = (find_recipe(arguments[0]).parent / recipe.code).resolve()
        use_code(code)
    job = TrainJob(
        model=recipe.model,
        data=recipe.data,
        train=recipe.train,
        metric=recipe.quality.metric,
        metric_outputs=recipe.quality.outputs,
        higher_is_better=recipe.quality.rises,
        allowed=Allowed.from_environment(code),
        checkpoints=str(Path(arguments[1]).resolve())
        if "://" not in arguments[1]
        else arguments[1],
    )
    gpu = torch.cuda.is_available() and recipe.train.resources.gpus > 0
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.set_num_threads(max(1, int(recipe.train.resources.cpus)))
    if "RANK" in os.environ:
        dist.init_process_group(backend(recipe.train.resources) if gpu else "gloo")
    stop = StopRequested()
    stop.listen()
    try:
        train_loop(job, _print_epochs, stop)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def _print_epochs(event: Event) -> None:
    if isinstance(event, EpochEnd | Note):
        print(event.text, flush=True)  # noqa: T201


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HoneError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
