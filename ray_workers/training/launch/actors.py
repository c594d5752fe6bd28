"""The workers that train together: plain Ray actors in a placement group, and one of them lost.

Ray Train's `TorchTrainer` (`train.launcher: ray-train`, `ray_train.py`) does the same with a
controller, a cleaner and a watcher, each a process that imports all of it: seconds at each start,
measured in `tests/benchmarks/training.py`. The loop runs under either.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ....recipe.errors import HoneError, InputError, Preempted, StepCrashed, StepFailed
from ....recipe.library_messages import telling
from ....recipe.parallel import Mesh
from ...channel import on_this_node
from ...data.ray_datasets import Feed, Feeder, in_memory, is_ray_dataset, travel_by_value
from ...events import Note
from ...ray_private import free_by_node
from ...workspace import Workspace, user_code
from ..job import TrainJob
from .worker import WorkerConfig, as_hone_error, config_of, prepare, run_loop

_LOOK_SECONDS = 0.1
_PLACE_SECONDS = 30.0
#: How long a cluster must have had room for more workers before an elastic mesh takes them.
_GROW_SECONDS = 5.0
_SETTLE_SECONDS = 3.0
_STEADY_SECONDS = 1.5


def fit(job: TrainJob, work: Workspace) -> None:
    """Train with the recipe's workers and wait; after a loss, go on from the last checkpoint.

    With an elastic mesh it starts with as many workers as the cluster can hold at that moment, and
    starts again from a checkpoint with more once it can hold more.

    Args:
        job: What to train.
        work: Of the step that trains; its `report` travels to the workers.

    Raises:
        InputError: The cluster can't hold the workers.
        StepCrashed: Workers died more often than `max_failures` allows.
        HoneError: What a worker raised.
    """
    failures = 0
    with _fed(job, work) as feed:
        config = config_of(job, work, feed)
        while True:
            try:
                _attempt(config)
                return
            except Preempted as stopped:
                work.note(f"{stopped.what}; starts again")
            except StepCrashed as lost:
                failures += 1
                if failures > job.train.max_failures:
                    raise StepCrashed(
                        f"{lost.what}, for the {failures}. time",
                        where="train",
                        do="look for memory that runs out or nodes that go away, or raise "
                        "train.max_failures",
                    ) from lost
                work.note(f"{lost.what}; starts again")


def _attempt(config: WorkerConfig) -> None:
    """Train to the end or to the first loss."""
    if config.job.train.launcher == "ray-train":
        from . import ray_train

        workers = _wait_for_room(config)
        ray_train.run(config, workers)
        return
    with _placed(config) as group:
        _run(config, group)


@contextmanager
def _fed(job: TrainJob, work: Workspace) -> Iterator[Feed | None]:
    """The way to the train split, if it is a Ray dataset; the factory is then called here only."""
    with user_code(work.code, work.store_url, work.cache_url):
        data = job.allowed.call(job.data.factory, job.data.args, "data.factory")
        if not is_ray_dataset(getattr(data, "train", None)):
            yield None
            return
        import ray

        travel_by_value()
        feeder = on_this_node(Feeder).remote(data, job.train.seed)
        try:
            yield Feed(in_memory(data), feeder, job.train.seed)
        finally:
            ray.kill(feeder)


class _Worker:
    """A process that trains: an actor with the resources of one worker."""

    def address(self) -> tuple[str, int, str, int]:
        """The address of this node, a free port on it, the node's id, and this process's."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        node = ray.get_runtime_context().get_node_id()
        return ray.util.get_node_ip_address(), port, node, os.getpid()

    def train(self, config: WorkerConfig, rank: int, world: int, url: str) -> dict[str, Any]:
        """Run the loop; an error comes back as plain data."""
        import torch.distributed as dist

        from ..loop import StopRequested

        try:
            prepare(config.job, gpu=0)  # Ray shows each worker its own
            gpu = config.job.train.resources.gpus > 0
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if gpu else "gloo",
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
    """Room for the workers, all at once or not at all.

    Yields:
        A Ray placement group with a bundle for each worker.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    each = _each(config.job)
    while True:
        workers = _wait_for_room(config)
        group = placement_group([each] * workers, strategy="PACK")
        ready, _ = ray.wait([group.ready()], timeout=_PLACE_SECONDS)
        if ready:
            break
        remove_placement_group(group)  # someone else was faster
    try:
        yield group
    finally:
        remove_placement_group(group)


def _wait_for_room(config: WorkerConfig) -> int:
    """How many workers to start, once the cluster can hold them.

    Raises:
        InputError: It can't, and `wait_for_workers` is over.
    """
    spec, report = config.job.train, config.report
    each = _each(config.job)
    deadline = time.monotonic() + spec.wait_for_workers
    settle = time.monotonic() + _SETTLE_SECONDS  # what just ended gives its CPUs back in a moment
    spare = 1.0 if config.feed is not None else 0.0
    told = False
    before, since = -1, time.monotonic()
    while True:
        room = _room(each, spare)
        if room != before:
            before, since = room, time.monotonic()
        workers = _workers(spec.mesh, room)
        steady = time.monotonic() - since >= _STEADY_SECONDS
        if workers is not None and (workers == spec.mesh.workers or steady):
            if spec.mesh.is_elastic:
                report(Note(f"trains with {workers} workers"))
            return workers
        busy = _workers(spec.mesh, _room(each, spare, in_all=True)) is not None
        if not busy and time.monotonic() >= max(deadline, settle):
            reading = ", beside a CPU that reads the Ray dataset" if config.feed else ""
            raise InputError(
                f"the mesh ({spec.mesh.describe()}) needs {spec.mesh.least_workers} workers with "
                f"{_describe(each)} each{reading}; the cluster has room for {room} now",
                where="train.mesh",
                do="lower the mesh or train.resources, free or add nodes, or set "
                "train.wait_for_workers to wait for them",
            )
        if not told and time.monotonic() >= settle:
            text = f"waits for {spec.mesh.least_workers} workers; there is room for {room}"
            text += ", others are at work" if busy else ""
            report(Note(text))
            told = True
        time.sleep(0.2)


def _each(job: TrainJob) -> dict[str, float]:
    """Ray resources of one worker."""
    resources = job.train.resources
    each: dict[str, float] = {"CPU": resources.cpus}
    return {**each, "GPU": resources.gpus} if resources.gpus else each


def _workers(mesh: Mesh, room: int) -> int | None:
    """As many workers as the mesh can use and the cluster can hold; None if too few."""
    data = min(mesh.data_range[1], room // mesh.replica)
    return data * mesh.replica if data >= mesh.data_range[0] else None


def _room(each: dict[str, float], spare: float = 0.0, in_all: bool = False) -> int:
    """How many workers the nodes that are alive can hold now.

    Args:
        each: Resources of a worker.
        spare: CPUs to leave free.
        in_all: Instead, how many they could hold if nothing else ran.
    """
    import ray

    total = 0
    whole = (dict(node["Resources"]) for node in ray.nodes() if node["Alive"])
    for free in whole if in_all else free_by_node():
        left = dict(free)
        taken = min(spare, left.get("CPU", 0.0))
        spare -= taken
        left["CPU"] = left.get("CPU", 0.0) - taken
        total += min(int((left.get(name, 0.0) + 1e-6) // need) for name, need in each.items())
    return total


def _run(config: WorkerConfig, group: Any) -> None:
    """Train in a placement group's bundles, to the end or to the first loss."""
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
        places = ray.get([actor.address.remote() for actor in actors])
        # Workers of one node get neighbouring ranks: the inner axes of the mesh talk most.
        order = sorted(
            range(len(actors)), key=lambda i: (places[i][2] != places[0][2], places[i][2], i)
        )
        host, port, _, _ = places[order[0]]
        url, world = f"tcp://{host}:{port}", len(actors)
        running = {
            actors[index].train.remote(config, rank, world, url): rank
            for rank, index in enumerate(order)
        }
        _wait(running, _Growth(config, len(actors), places[0]))
    except ray.exceptions.RayActorError as error:
        raise StepCrashed(f"a training worker died ({_why_died(error)})") from error
    finally:
        for actor in actors:
            ray.kill(actor)


class _Growth:
    """Notices that an elastic mesh could have more workers, and asks those that train to stop.

    Args:
        config: Of the training.
        workers: How many train now.
        place: Address, port, node and process of one of them.
    """

    def __init__(
        self, config: WorkerConfig, workers: int, place: tuple[str, int, str, int]
    ) -> None:
        self._config = config
        self._workers = workers
        self._place = place
        self._mesh = config.job.train.mesh
        self._since: float | None = None
        self._next = time.monotonic() + _GROW_SECONDS
        self._wanted = self._mesh.is_elastic and workers < self._mesh.workers

    def poll(self) -> None:
        """Once a second: has there been room for longer than a moment?"""
        now = time.monotonic()
        if not self._wanted or now < self._next:
            return
        self._next = now + 1.0
        room = _room(_each(self._config.job), spare=1.0 if self._config.feed else 0.0)
        if room < self._mesh.replica:
            self._since = None
            return
        self._since = self._since or now
        if now - self._since >= _GROW_SECONDS:
            self._wanted = False
            text = (
                f"the cluster has room for {room} more workers: stops at a checkpoint to take them"
            )
            self._config.report(Note(text))
            self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        _, _, node, process = self._place
        asker = ray.remote(num_cpus=0)(_ask_process).options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        )
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(asker.remote(process))


def _ask_process(process: int) -> None:
    os.kill(process, signal.SIGTERM)


def _wait(running: dict[Any, int], growth: _Growth) -> None:
    """Until all are done; the error that says most is raised.

    A worker that dies leaves the others waiting for it, so they are not waited for; one that
    raises makes the others raise too, in words about a lost connection.
    """
    import ray

    pending = list(running)
    errors: list[HoneError] = []
    deadline = float("inf")
    while pending and time.monotonic() < deadline:
        done, pending = ray.wait(pending, num_returns=1, timeout=_LOOK_SECONDS)
        growth.poll()
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
                errors.append(StepCrashed(f"{lost} ({_why_died(error)})"))
                deadline = min(deadline, time.monotonic() + 1.0)
                continue
            if "error" in answer:
                errors.append(HoneError.from_dict(answer["error"]))
                deadline = min(deadline, time.monotonic() + 3.0)
    for says_most in _SAYS_MOST:
        for problem in errors:
            if says_most(problem):
                raise problem


#: Which error is told: a user's mistake, then what a worker explained, then a death.
_SAYS_MOST: tuple[Callable[[HoneError], bool], ...] = (
    lambda error: isinstance(error, InputError),
    lambda error: isinstance(error, StepFailed),
    lambda error: isinstance(error, Preempted),
    lambda error: isinstance(error, StepCrashed) and "connection" not in error.what,
    lambda error: not isinstance(error, StepCrashed),
    lambda error: True,
)


def _why_died(error: BaseException) -> str:
    """In a few words; Ray's own take a page."""
    text = str(error)
    if re.search(r"node (was|is|has|that).{0,40}(dead|died|terminated|removed)|Node", text):
        return "its node went away"
    if found := re.search(r"SIG[A-Z]{3,}", text):
        return found.group(0)
    if "OutOfMemory" in type(error).__name__ or "OOM" in text:
        return "killed or out of memory"
    if "unavailable" in text or "Socket closed" in text:
        return "its process or node went away"
    return telling(error).rstrip(".")[:160]


def _describe(each: dict[str, float]) -> str:
    return " and ".join(f"{count:g} {name}" for name, count in each.items())
