"""How many workers a cluster has room for, at the start of training and while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from ....recipe.errors import InputError
from ....recipe.parallel import Mesh
from ....recipe.training import Resources, Train
from ...events import Note, Report
from ...ray_private import free_by_node
from .worker import WorkerConfig

#: How long a cluster must have room for more workers before an elastic mesh uses them.
_GROW_SECONDS = 5.0
#: Work that has just ended releases its CPUs after a moment.
_SETTLE_SECONDS = 3.0
_STEADY_SECONDS = 1.5
_LOOK_SECONDS = 0.2


def ray_resources(resources: Resources) -> dict[str, float]:
    """Ray resources of one worker."""
    each: dict[str, float] = {"CPU": resources.cpus}
    return {**each, "GPU": resources.gpus} if resources.gpus else each


def usable_workers(mesh: Mesh, room: int) -> int | None:
    """As many workers as the mesh can use and the cluster can hold; None if too few."""
    data = min(mesh.data_range[1], room // mesh.replica)
    return data * mesh.replica if data >= mesh.data_range[0] else None


def workers_that_fit(
    nodes: Iterable[Mapping[str, float]], each: Mapping[str, float], spare_cpus: float = 0.0
) -> int:
    """How many workers nodes can hold.

    Args:
        nodes: Ray resources of each node.
        each: Ray resources of a worker.
        spare_cpus: CPUs to leave free, on any nodes.
    """
    total = 0
    for node in nodes:
        left = dict(node)
        taken = min(spare_cpus, left.get("CPU", 0.0))
        spare_cpus -= taken
        left["CPU"] = left.get("CPU", 0.0) - taken
        total += min(int((left.get(name, 0.0) + 1e-6) // need) for name, need in each.items())
    return total


def free_room(config: WorkerConfig) -> int:
    """How many workers the nodes that are alive can hold now."""
    each = ray_resources(config.job.train.resources)
    return workers_that_fit(free_by_node(), each, _spare_cpus(config))


def whole_room(config: WorkerConfig) -> int:
    """How many they could hold if nothing else ran."""
    import ray

    each = ray_resources(config.job.train.resources)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return workers_that_fit(nodes, each, _spare_cpus(config))


def _spare_cpus(config: WorkerConfig) -> float:
    """One CPU beside the workers, if a Ray dataset is read."""
    return 1.0 if config.feed is not None else 0.0


def wait_for_room(config: WorkerConfig) -> int:
    """How many workers to start, once the cluster can hold them.

    Raises:
        InputError: It can't, and `wait_for_workers` is over.
    """
    policy = StartPolicy(
        config.job.train, config.report, time.monotonic(), reads=config.feed is not None
    )
    while True:
        workers = policy.workers(time.monotonic(), free_room(config), whole_room(config))
        if workers is not None:
            return workers
        time.sleep(_LOOK_SECONDS)


class StartPolicy:
    """Decides when training starts, and with how many workers.

    Args:
        train: The recipe's `train`.
        report: Gets a note about what it waits for.
        now: When the wait begins (s).
        reads: Whether to leave a CPU free for reading a Ray dataset.
    """

    def __init__(self, train: Train, report: Report, now: float, reads: bool = False) -> None:
        self._train = train
        self._report = report
        self._reads = reads
        self._deadline = now + train.wait_for_workers
        self._settled = now + _SETTLE_SECONDS
        self._room, self._since = -1, now
        self._said_so = False

    def workers(self, now: float, room: int, whole_room: int) -> int | None:
        """Number of workers to start with; None: wait.

        Args:
            now: The time (s).
            room: How many workers there is room for.
            whole_room: How many there would be room for if nothing else ran.

        Raises:
            InputError: There is too little room, and the wait is over.
        """
        mesh = self._train.mesh
        if room != self._room:
            self._room, self._since = room, now
        workers = usable_workers(mesh, room)
        steady = now - self._since >= _STEADY_SECONDS
        if workers is not None and (workers == mesh.workers or steady):
            if mesh.is_elastic:
                self._report(Note(f"trains with {workers} workers"))
            return workers
        busy = usable_workers(mesh, whole_room) is not None
        if not busy and now >= max(self._deadline, self._settled):
            each = ray_resources(self._train.resources)
            described = " and ".join(f"{count:g} {name}" for name, count in each.items())
            reading = ", beside a CPU that reads the Ray dataset" if self._reads else ""
            raise InputError(
                f"the mesh ({mesh.describe()}) needs {mesh.least_workers} workers with "
                f"{described} each{reading}; the cluster has room for {room} now",
                where="train.mesh",
                do="lower the mesh or train.resources, free or add nodes, or set "
                "train.wait_for_workers to wait for them",
            )
        if not self._said_so and now >= self._settled:
            text = f"waiting for {mesh.least_workers} workers; there is room for {room}"
            self._report(Note(text + (", others are at work" if busy else "")))
            self._said_so = True
        return None


class GrowthPolicy:
    """Decides when an elastic mesh grows.

    Args:
        mesh: The recipe's.
        workers: How many are training.
        room: Returns how many more there is room for.
        now: When they started (s).
    """

    def __init__(self, mesh: Mesh, workers: int, room: Callable[[], int], now: float) -> None:
        self._replica = mesh.replica
        self._room = room
        self._since: float | None = None
        self._next_look = now + _GROW_SECONDS
        self._wanted = mesh.is_elastic and workers < mesh.workers

    def more_workers(self, now: float) -> int | None:
        """How many more there has been room for, for several seconds; returned once.

        It checks at most once per second.
        """
        if not self._wanted or now < self._next_look:
            return None
        self._next_look = now + 1.0
        room = self._room()
        if room < self._replica:
            self._since = None
            return None
        self._since = now if self._since is None else self._since
        if now - self._since < _GROW_SECONDS:
            return None
        self._wanted = False
        return room
