"""When training starts, with how many workers, and when it takes more: decisions without Ray."""

from __future__ import annotations

from typing import Any

import pytest
from prefect_hone.ray_workers.events import Event, Note
from prefect_hone.ray_workers.training.launch.elastic import (
    GrowthPolicy,
    StartPolicy,
    ray_resources,
    usable_workers,
    workers_that_fit,
)
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.parallel import Mesh
from prefect_hone.recipe.training import Resources, Train

ELASTIC = {"data": {"min": 2, "max": 4}}


def train(mesh: dict[str, Any], **fields: Any) -> Train:
    return Train.model_validate({"epochs": 1, "batch_size": 32, "mesh": mesh, **fields})


class Start:
    """A `StartPolicy` from second 0 on, and the notes that it tells."""

    def __init__(self, spec: Train, reads: bool = False) -> None:
        self.notes: list[str] = []
        self._policy = StartPolicy(spec, self._report, 0.0, reads)

    def _report(self, event: Event) -> None:
        assert isinstance(event, Note)
        self.notes.append(event.text)

    def __call__(self, now: float, room: int, whole: int | None = None) -> int | None:
        return self._policy.workers(now, room, room if whole is None else whole)


def test_workers_fit_into_nodes_not_into_their_sum() -> None:
    assert workers_that_fit([{"CPU": 3.0}, {"CPU": 3.0}], {"CPU": 2.0}) == 2
    assert workers_that_fit([{"CPU": 0.3 * 3}], {"CPU": 0.3}) == 3, "rounding hides none"
    assert workers_that_fit([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], {"CPU": 1.0, "GPU": 1.0}) == 1
    assert workers_that_fit([], {"CPU": 1.0}) == 0


def test_spare_cpus_are_left_free_wherever_they_are() -> None:
    assert workers_that_fit([{"CPU": 2.0}, {"CPU": 2.0}], {"CPU": 2.0}, spare_cpus=1.0) == 1
    assert workers_that_fit([{"CPU": 0.5}, {"CPU": 2.5}], {"CPU": 2.0}, spare_cpus=1.0) == 1
    assert workers_that_fit([{"GPU": 1.0}, {"CPU": 2.0}], {"CPU": 1.0}, spare_cpus=1.0) == 1


def test_a_worker_without_a_gpu_asks_for_none() -> None:
    assert ray_resources(Resources(cpus=2)) == {"CPU": 2}
    assert ray_resources(Resources(cpus=2, gpus=1)) == {"CPU": 2, "GPU": 1}


@pytest.mark.parametrize(
    ("mesh", "room", "workers"),
    [
        ({"data": 2}, 5, 2),
        ({"data": 2}, 1, None),
        (ELASTIC, 1, None),
        (ELASTIC, 3, 3),
        (ELASTIC, 9, 4),
        ({**ELASTIC, "shard": 2}, 7, 6),
        ({**ELASTIC, "shard": 2}, 3, None),
    ],
)
def test_as_many_workers_as_the_mesh_can_use(mesh: dict, room: int, workers: int | None) -> None:
    assert usable_workers(Mesh.model_validate(mesh), room) == workers


def test_it_starts_at_once_where_there_is_room_for_all() -> None:
    start = Start(train({"data": 2}))
    assert start(0.0, 2) == 2
    assert start.notes == []
    elastic = Start(train(ELASTIC))
    assert elastic(0.0, 4) == 4
    assert elastic.notes == ["trains with 4 workers"]


def test_an_elastic_mesh_starts_with_fewer_once_no_more_come() -> None:
    start = Start(train(ELASTIC))
    assert start(0.0, 2) is None
    assert start(1.4, 3) is None, "more came"
    assert start(2.8, 3) is None
    assert start(3.0, 3) == 3
    assert start.notes == ["trains with 3 workers"]


def test_it_waits_for_what_others_hold_however_long() -> None:
    start = Start(train({"data": 2}))
    assert start(0.0, 0, whole=4) is None
    assert start.notes == []
    assert start(3.0, 1, whole=4) is None
    assert start(5000.0, 1, whole=4) is None
    assert start.notes == ["waiting for 2 workers; there is room for 1, others are at work"]
    assert start(5001.0, 2, whole=4) == 2


def test_a_cluster_that_is_too_small_is_refused_when_the_wait_is_over() -> None:
    start = Start(train({"data": 3}, wait_for_workers=10, resources={"cpus": 2}), reads=True)
    assert start(4.0, 1) is None
    assert start.notes == ["waiting for 3 workers; there is room for 1"]
    with pytest.raises(InputError) as caught:
        start(10.0, 1)
    assert "needs 3 workers with 2 CPU each, beside a CPU that reads" in caught.value.what
    assert "the cluster has room for 1 now" in caught.value.what
    patient = Start(train({"data": 3}))
    assert patient(2.9, 1) is None, "what just ended gives its CPUs back in a moment"


def growth(mesh: dict, workers: int, rooms: dict[float, int]) -> list[tuple[float, int | None]]:
    """What is decided at each time, of which each has its room."""
    clock = [0.0]
    policy = GrowthPolicy(Mesh.model_validate(mesh), workers, lambda: rooms[clock[0]], 0.0)
    found = []
    for clock[0] in rooms:
        if (more := policy.more_workers(clock[0])) is not None:
            found.append((clock[0], more))
    return found


def test_it_grows_when_there_was_room_for_some_seconds_and_says_so_once() -> None:
    always = dict.fromkeys([float(second) for second in range(30)], 2)
    assert growth(ELASTIC, 2, always) == [(10.0, 2)]


def test_room_for_a_moment_is_not_taken() -> None:
    rooms = {float(second): int(second % 4 != 0) for second in range(30)}
    assert growth(ELASTIC, 2, rooms) == []


@pytest.mark.parametrize(
    ("mesh", "workers", "room"),
    [(ELASTIC, 4, 2), ({"data": 2}, 2, 2), ({**ELASTIC, "shard": 2}, 4, 1)],
    ids=["all train", "not elastic", "too little for a replica"],
)
def test_it_does_not_grow(mesh: dict, workers: int, room: int) -> None:
    assert growth(mesh, workers, dict.fromkeys([float(s) for s in range(30)], room)) == []
