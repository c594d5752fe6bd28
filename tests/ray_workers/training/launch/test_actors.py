"""Which worker gets which rank, and what is made of their answers; Ray itself is in the slow tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from prefect_hone.ray_workers.events import Event, Note
from prefect_hone.ray_workers.training.launch import actors
from prefect_hone.ray_workers.training.launch.worker import backend
from prefect_hone.recipe.errors import InputError, StepCrashed, StepFailed
from prefect_hone.recipe.training import Resources
from ray.exceptions import RayActorError

PLACE = actors._Place("10.0.0.1", 1234, "a", 77)


class Growth:
    """Room for more workers, or none."""

    def __init__(self, more: int | None = None) -> None:
        self._more = more

    def more_workers(self, _now: float) -> int | None:
        more, self._more = self._more, None
        return more


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """What `ray.get` gives for a reference; an exception is raised. What is not there never ends."""
    given: dict[Any, Any] = {}

    def wait(pending: list, **_: Any) -> tuple[list, list]:
        done = [reference for reference in pending if reference in given][:1]
        return done, [reference for reference in pending if reference not in done]

    def get(reference: Any) -> Any:
        if isinstance(given[reference], Exception):
            raise given[reference]
        return given[reference]

    clock = iter(range(10_000))
    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(actors, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    return given


def wait_for(*references: str, growth: Growth | None = None) -> list[Event]:
    told: list[Event] = []
    running = {reference: rank for rank, reference in enumerate(references)}
    actors._wait(running, growth or Growth(), told.append, PLACE)
    return told


def test_workers_of_one_node_get_neighbouring_ranks() -> None:
    assert actors._in_order_of_rank(["b", "a", "b", "c", "a"]) == [0, 2, 1, 4, 3]


def test_all_that_end_well_end_well(answers: dict) -> None:
    answers.update(first={}, second={})
    assert wait_for("first", "second") == []


def test_a_mistake_of_the_users_is_told_before_what_came_of_it(answers: dict) -> None:
    answers.update(
        first={"error": StepCrashed("the connection to another worker was lost").to_dict()},
        second={"error": InputError("the factory is wrong", where="model").to_dict()},
    )
    with pytest.raises(InputError, match="the factory is wrong"):
        wait_for("first", "second")


def test_who_waits_for_a_dead_worker_is_not_waited_for(answers: dict) -> None:
    answers["first"] = RayActorError(error_msg="its node has died. Node Id: 4")
    with pytest.raises(StepCrashed, match=r"worker of rank 0 died \(its node went away\)"):
        wait_for("first", "never ends")


def test_neighbours_have_a_moment_to_say_what_happened(answers: dict) -> None:
    answers["first"] = {"error": StepFailed("the loss became nan").to_dict()}
    with pytest.raises(StepFailed, match="nan"):
        wait_for("first", "never ends")


def test_room_for_more_stops_a_worker(answers: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[object] = []
    monkeypatch.setattr(actors, "_ask_to_stop", stopped.append)
    answers["only"] = {}
    told = wait_for("only", growth=Growth(2))
    assert told == [
        Note("the cluster has room for 2 more workers: stops at a checkpoint to take them")
    ]
    assert stopped == [PLACE]


def test_checkpoints_travel_by_gloo_on_gpus_too() -> None:
    assert backend(Resources()) == "gloo"
    assert backend(Resources(gpus=1)) == "cpu:gloo,cuda:nccl"
