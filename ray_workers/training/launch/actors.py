"""Training workers as plain Ray actors in a placement group, and recovery when one is lost.

Ray Train's `TorchTrainer` (`train.launcher: ray-train`, `ray_train.py`) does the same with a
controller, a cleaner and a watcher, each a process with all imports, which costs seconds at each
start (`tests/benchmarks/training.py`). The loop runs under either.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ....recipe.errors import HoneError, StepCrashed
from ...data.asking import asked_by
from ...data.split_format import Feed
from ...data.splits import feed_of
from ...events import Note, Report
from ...worker_death import cause_of_death
from ...workspace import Workspace, user_code
from ..job import TrainJob
from .elastic import GrowthPolicy, free_room, ray_resources, wait_for_room
from .failures import FailurePolicy, says_most
from .worker import WorkerConfig, as_hone_error, backend, config_of, prepare, run_loop

_LOOK_SECONDS = 0.1
_PLACE_SECONDS = 30.0


def fit(job: TrainJob, work: Workspace[Any]) -> None:
    """Train with the recipe's workers and wait; after losing one, resume from the last checkpoint.

    An elastic mesh starts with as many workers as the cluster can hold at that moment, and restarts
    from a checkpoint with more once it can hold more.

    Args:
        job: What to train.
        work: Workspace of the step that trains; its `report` is sent to the workers.

    Raises:
        InputError: The cluster can't hold the workers.
        StepCrashed: Workers died more often than `max_failures` allows.
        HoneError: What a worker raised.
    """
    policy = FailurePolicy(job.train.max_failures)
    with _fed(job, work) as (feed, data):
        config = config_of(job, work, feed, data)
        while True:
            try:
                _attempt(config)
                return
            except StepCrashed as lost:
                work.note(policy.start_again(lost))


def _attempt(config: WorkerConfig) -> None:
    """Train to the end, or until a worker is lost."""
    if config.job.train.launcher == "ray-train":
        from . import ray_train

        ray_train.run(config, wait_for_room(config))
        return
    with _placed(config) as group:
        _run(config, group)


@contextmanager
def _fed(job: TrainJob, work: Workspace[Any]) -> Iterator[tuple[Feed | None, Any]]:
    """Access to a streamed train split, and a reference to data that are sent.

    The factory of either is called only here.
    """
    with user_code(work.code, work.store_url, work.cache_url, job.allowed):
        asked = asked_by(work, job.data)
        with feed_of(asked.data, job.train.seed) as feed:
            reference = asked.reference if feed is None else None
            del asked
            yield feed, reference


class _Place(NamedTuple):
    """Location of a worker: its node's address, a free port there, the node's id, its process."""

    address: str
    port: int
    node: str
    process: int


class _Worker:
    """A training process: an actor with the resources of one worker."""

    def place(self) -> _Place:
        """Location of this process."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        node = ray.get_runtime_context().get_node_id()
        return _Place(ray.util.get_node_ip_address(), port, node, os.getpid())

    def train(self, config: WorkerConfig, rank: int, world: int, url: str) -> dict[str, Any]:
        """Run the loop; an error is returned as plain data."""
        import torch.distributed as dist

        from ..loop import StopRequested

        try:
            prepare(config.job, gpu=0)  # Ray shows each worker its own
            dist.init_process_group(
                backend(config.job.train.resources),
                init_method=url,
                rank=rank,
                world_size=world,
            )
            stop = StopRequested()
            stop.listen()
            try:
                run_loop(config, stop)
            finally:
                dist.destroy_process_group()
        except Exception as error:
            return {"error": as_hone_error(error).to_dict()}
        return {}


@contextmanager
def _placed(config: WorkerConfig) -> Iterator[Any]:
    """Reserve resources for the workers, for all or none.

    Yields:
        A Ray placement group with a bundle for each worker.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    each = ray_resources(config.job.train.resources)
    while True:
        workers = wait_for_room(config)
        group = placement_group([each] * workers, strategy="PACK")
        ready, _ = ray.wait([group.ready()], timeout=_PLACE_SECONDS)
        if ready:
            break
        remove_placement_group(group)  # someone else was faster
    try:
        yield group
    finally:
        remove_placement_group(group)


def _run(config: WorkerConfig, group: Any) -> None:
    """Train in a placement group's bundles, to the end or until a worker is lost."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    resources = config.job.train.resources
    actors = [
        ray.remote(_Worker)
        .options(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_restarts=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=index
            ),
        )
        .remote()
        for index in range(group.bundle_count)
    ]
    try:
        places = ray.get([actor.place.remote() for actor in actors])
        order = _in_order_of_rank([place.node for place in places])
        first, world = places[order[0]], len(actors)
        url = f"tcp://{first.address}:{first.port}"
        running = {
            actors[index].train.remote(config, rank, world, url): rank
            for rank, index in enumerate(order)
        }
        mesh = config.job.train.mesh
        growth = GrowthPolicy(mesh, world, lambda: free_room(config), time.monotonic())
        _wait(running, growth, config.report, places[0])
    except ray.exceptions.RayActorError as error:
        raise StepCrashed(f"a training worker died ({cause_of_death(error)})") from error
    finally:
        for actor in actors:
            ray.kill(actor)


def _in_order_of_rank(nodes: Sequence[str]) -> list[int]:
    """Workers by rank, from the node of each: those on one node get adjacent ranks.

    The inner axes of the mesh communicate most.
    """
    return sorted(range(len(nodes)), key=lambda i: (nodes[i] != nodes[0], nodes[i], i))


def _ask_to_stop(place: _Place) -> None:
    """Preempting any worker stops all, after a checkpoint."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asker = ray.remote(num_cpus=0)(_ask_process).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False)
    )
    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(asker.remote(place.process))


def _ask_process(process: int) -> None:
    os.kill(process, signal.SIGTERM)


def _wait(running: dict[Any, int], growth: GrowthPolicy, report: Report, place: _Place) -> None:
    """Wait until all are done; raise the most informative error.

    If a worker dies, the others hang, so they are not waited for.

    Args:
        running: Rank by the reference to a worker's result.
        growth: Whether they should stop because there is room for more.
        report: Gets a note about it.
        place: Of the worker that is then asked to stop.
    """
    import ray

    pending = list(running)
    errors: list[HoneError] = []
    deadline = float("inf")
    while pending and time.monotonic() < deadline:
        done, pending = ray.wait(pending, num_returns=1, timeout=_LOOK_SECONDS)
        if (more := growth.more_workers(time.monotonic())) is not None:
            room = f"the cluster has room for {more} more workers"
            report(Note(f"{room}: stops at a checkpoint to take them"))
            _ask_to_stop(place)
        for reference in done:
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                errors.append(as_hone_error(cause if isinstance(cause, Exception) else error))
                deadline = min(deadline, time.monotonic() + 1.0)
                continue
            except ray.exceptions.RayError as error:
                rank = running[reference]
                lost = f"the training worker of rank {rank} died"
                errors.append(StepCrashed(f"{lost} ({cause_of_death(error)})"))
                deadline = min(deadline, time.monotonic() + 1.0)
                continue
            if "error" in answer:
                errors.append(HoneError.from_dict(answer["error"]))
                deadline = min(deadline, time.monotonic() + 3.0)
    if errors:
        raise says_most(errors)
