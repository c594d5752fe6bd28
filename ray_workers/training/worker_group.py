"""The workers that train together: plain Ray actors in a placement group, and one of them lost.

Ray Train's `TorchTrainer` does the same with a controller, a cleaner and a watcher, each a process
that imports all of it: 11 s until the loop starts and 1 s after it, where this takes 2 s and 0.1 s
(`tests/benchmarks/training_start.py`). The loop runs under either.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...recipe.errors import HoneError, InputError, Preempted, StepCrashed, StepFailed
from ...recipe.parallel import Mesh
from ..artifacts import Artifact
from ..workspace import Report, Workspace, user_code
from .job import TrainJob

_LOOK_SECONDS = 0.1
_GROW_SECONDS = 30.0


def fit(job: TrainJob, work: Workspace) -> None:
    """Train with the recipe's workers and wait; after a loss, go on from the last checkpoint.

    With an elastic mesh it starts with as many workers as the cluster can hold at that moment.

    Args:
        job: What to train.
        work: Of the step that trains; its `report` travels to the workers.

    Raises:
        InputError: The cluster can't hold the workers.
        StepCrashed: Workers died more often than `max_failures` allows.
        HoneError: What a worker raised.
    """
    failures = 0
    while True:
        try:
            with _placed(job, work.report) as bundles:
                _run(job, work, bundles)
            return
        except Preempted as stopped:
            work.report({"kind": "note", "text": f"{stopped.what}; starts again"})
        except StepCrashed as lost:
            failures += 1
            if failures > job.train.max_failures:
                raise StepCrashed(
                    f"{lost.what}, for the {failures}. time",
                    where="train",
                    do="look for memory that runs out or nodes that go away, or raise "
                    "train.max_failures",
                ) from lost
            work.report({"kind": "note", "text": f"{lost.what}; starts again"})


class _Worker:
    """A process that trains: an actor with the resources of one worker."""

    def address(self) -> tuple[str, int, str]:
        """The address of this node, a free port on it, and the node's id."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        node = ray.get_runtime_context().get_node_id()
        return ray.util.get_node_ip_address(), port, node

    def train(self, config: dict[str, Any], rank: int, world: int, url: str) -> dict[str, Any]:
        """Run the loop; an error comes back as plain data."""
        try:
            self._train(config, rank, world, url)
        except HoneError as error:
            return {"error": error.to_dict()}
        except Exception as error:
            return {"error": _explained(error).to_dict()}
        return {}

    def _train(self, config: dict[str, Any], rank: int, world: int, url: str) -> None:
        import torch
        import torch.distributed as dist

        from .loop import StopRequested, train_loop

        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        logging.getLogger("torch.distributed").setLevel(logging.ERROR)
        job = TrainJob.model_validate(config["job"])
        torch.set_num_threads(max(1, int(job.train.resources.cpus)))
        gpu = job.train.resources.gpus > 0
        if gpu:
            torch.cuda.set_device(0)  # Ray shows each worker its own
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo", init_method=url, rank=rank, world_size=world
        )
        stop = StopRequested()
        stop.listen()
        code = Artifact.model_validate(config["code"]) if config["code"] else None
        try:
            with user_code(code, config["store"], config["cache"]):
                train_loop(job, config["report"], stop)
        finally:
            dist.destroy_process_group()


@contextmanager
def _placed(job: TrainJob, report: Report) -> Iterator[Any]:
    """Room for the workers, all at once or not at all.

    Yields:
        A Ray placement group with a bundle for each worker.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    spec = job.train
    each: dict[str, float] = {"CPU": spec.resources.cpus}
    if spec.resources.gpus:
        each["GPU"] = spec.resources.gpus
    deadline = time.monotonic() + spec.wait_for_workers
    told = False
    while True:
        workers = _workers(spec.mesh, _room(each))
        if workers is not None:
            group = placement_group([each] * workers, strategy="PACK")
            ready, _ = ray.wait([group.ready()], timeout=_GROW_SECONDS)
            if ready:
                break
            remove_placement_group(group)
        if time.monotonic() >= deadline:
            room = _room(each)
            raise InputError(
                f"the mesh ({spec.mesh.describe()}) needs {spec.mesh.least_workers} workers with "
                f"{_describe(each)} each; the cluster has room for {room} now",
                where="train.mesh",
                do="lower the mesh or train.resources, free or add nodes, or set "
                "train.wait_for_workers to wait for them",
            )
        if not told:
            report({"kind": "note", "text": f"waits for {spec.mesh.least_workers} workers"})
            told = True
        time.sleep(1.0)
    if spec.mesh.is_elastic:
        report({"kind": "note", "text": f"trains with {workers} workers"})
    try:
        yield group
    finally:
        remove_placement_group(group)


def _workers(mesh: Mesh, room: int) -> int | None:
    """As many workers as the mesh can use and the cluster can hold; None if too few."""
    data = min(mesh.data_range[1], room // mesh.replica)
    return data * mesh.replica if data >= mesh.data_range[0] else None


def _room(each: dict[str, float]) -> int:
    """How many workers the nodes that are alive can hold now."""
    from ray._private.state import available_resources_per_node

    total = 0
    for free in available_resources_per_node().values():
        total += min(int((free.get(name, 0.0) + 1e-6) // need) for name, need in each.items())
    return total


def _run(job: TrainJob, work: Workspace, group: Any) -> None:
    """Train in a placement group's bundles, to the end or to the first loss."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    resources = job.train.resources
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
    config = {
        "job": job.model_dump(mode="json"),
        "report": work.report,
        "code": work.code.model_dump(mode="json") if work.code else None,
        "store": work.store_url,
        "cache": work.cache_url,
    }
    try:
        places = ray.get([actor.address.remote() for actor in actors])
        # Workers of one node get neighbouring ranks: the inner axes of the mesh talk most.
        order = sorted(
            range(len(actors)), key=lambda i: (places[i][2] != places[0][2], places[i][2], i)
        )
        host, port, _ = places[order[0]]
        url, world = f"tcp://{host}:{port}", len(actors)
        running = {
            actors[index].train.remote(config, rank, world, url): rank
            for rank, index in enumerate(order)
        }
        _wait(running)
    except ray.exceptions.RayActorError as error:
        raise StepCrashed(f"a training worker died ({_first_line(error)})") from error
    finally:
        for actor in actors:
            ray.kill(actor)


def _wait(running: dict[Any, int]) -> None:
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
        for reference in done:
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayError as error:
                rank = running[reference]
                lost = f"the training worker of rank {rank} died"
                errors.append(StepCrashed(f"{lost} ({_first_line(error)})"))
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


def _explained(error: Exception) -> HoneError:
    """An exception of the user's code or of a lost neighbour, with its place."""
    import torch.distributed as dist

    first = _first_line(error)
    words = (
        "Connection closed by peer",
        "Connection reset",
        "Broken pipe",
        "recvBytes",
        "Timed out",
    )
    if isinstance(error, dist.DistError) or any(word in str(error) for word in words):
        return StepCrashed(f"the connection to another worker was lost ({first})")
    frame, place = error.__traceback__, None
    while frame is not None:
        code = frame.tb_frame.f_code
        place = f"{os.path.basename(code.co_filename)}:{frame.tb_lineno}"
        frame = frame.tb_next
    return HoneError(f"{type(error).__name__}: {first}", where=place)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _describe(each: dict[str, float]) -> str:
    return " and ".join(f"{count:g} {name}" for name, count in each.items())
