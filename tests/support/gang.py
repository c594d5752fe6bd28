"""Processes that train together, forked from one that has the imports done."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect_hone.ray_workers.events import Event, Metric

_PRELOADED = ["torch", "torch.distributed.tensor", "prefect_hone.ray_workers.training.loop"]


def together(
    world: int, work: Callable[..., Any], *arguments: Any, timeout: float = 150
) -> list[Any]:
    """What `work(*arguments)` gives in each of a gloo group of processes; they end with it.

    Raises:
        RuntimeError: One of them raised; with its traceback.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with tempfile.TemporaryDirectory(prefix="gang-") as folder:
        processes = [
            context.Process(target=_run, args=(rank, world, folder, work, arguments))
            for rank in range(world)  # no daemons: they may have processes that read the data
        ]
        for process in processes:
            process.start()
        try:
            for process in processes:
                process.join(timeout)
        finally:
            for process in processes:
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    process.join()
        answers = []
        for rank, process in enumerate(processes):
            said = Path(folder) / f"{rank}.json"
            silent = {"error": f"ended with {process.exitcode} and no answer"}
            answers.append(json.loads(said.read_text()) if said.exists() else silent)
        errors = [f"rank {rank}: {a['error']}" for rank, a in enumerate(answers) if "error" in a]
        if errors:
            raise RuntimeError(min(errors, key=lambda error: "Connection" in error))
        return [answer["value"] for answer in answers]


def _run(rank: int, world: int, folder: str, work: Callable[..., Any], arguments: Any) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        if world > 1:
            dist.init_process_group(
                "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world
            )
        answer = {"value": work(*arguments)}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    aside = Path(folder) / f"{rank}.tmp"
    aside.write_text(json.dumps(answer))
    aside.rename(Path(folder) / f"{rank}.json")
    os._exit(0)  # without waiting for the others' goodbye


def plain(event: Event) -> dict[str, Any]:
    """An event as JSON carries it."""
    return {"kind": type(event).__name__.lower(), **asdict(event)}


def train(
    job: dict[str, Any], stop_at: int | None = None, code: str | None = None
) -> list[dict[str, Any]]:
    """Run the training loop in this process group; the events that rank 0 tells."""
    if code is not None:
        from prefect_hone.recipe.factories import use_code

        use_code(Path(code))
    from prefect_hone.ray_workers.training.job import TrainJob
    from prefect_hone.ray_workers.training.loop import StopRequested, train_loop
    from prefect_hone.recipe.errors import Preempted

    events: list[dict[str, Any]] = []
    stop = StopRequested()

    def report(event: Event) -> None:
        events.append(plain(event))
        if isinstance(event, Metric) and event.name == "train/loss" and event.step + 1 == stop_at:
            stop.now = True

    try:
        train_loop(TrainJob.model_validate(job), report, stop)
    except Preempted:
        events.append({"kind": "preempted"})
    return events


def train_all(jobs: list[dict[str, Any]], code: str) -> list[Any]:
    """Run several trainings, one after the other; the events of each, or its error's text."""
    from prefect_hone.recipe.errors import HoneError

    answers: list[Any] = []
    for job in jobs:
        try:
            answers.append(train(job, code=code))
        except HoneError as error:
            answers.append(str(error))
    return answers
