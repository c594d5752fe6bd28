"""A step run in this process, and what is made of how it ends in a worker."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from prefect_hone.ray_workers import dispatch as module
from prefect_hone.ray_workers.dispatch import StepJob, dispatch, execute
from prefect_hone.ray_workers.events import Begun, Event, Note
from prefect_hone.ray_workers.store.artifacts import Store
from prefect_hone.ray_workers.workspace import Result, Workspace
from prefect_hone.recipe.errors import (
    HoneError,
    InputError,
    StepCrashed,
    StepFailed,
    StepTimeout,
    StoreError,
)
from prefect_hone.recipe.factories import Allowed
from ray.exceptions import ActorDiedError, RayTaskError, WorkerCrashedError

STEPS = "steps_of_dispatch"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module whose functions are steps."""
    import sys

    made = SimpleNamespace()
    monkeypatch.setitem(sys.modules, STEPS, made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


def job(store: Store, **fields: Any) -> StepJob:
    return StepJob(
        function=f"{STEPS}:step", key="k", lineage="l", spec={"times": 3}, code=None,
        allowed=Allowed(), store=store.url, cache=str(store.cache), **{"inputs": {}, **fields},
    )  # fmt: skip


def test_a_step_gets_its_inputs_and_its_outputs_are_kept(
    steps: SimpleNamespace, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/word").write_text("ho")
    given = store.put(tmp_path / "in", "word")

    def step(work: Workspace) -> Result:
        text = (work.inputs["word"] / "word").read_text() * work.spec["times"]
        (work.output("words", "word") / "words").write_text(text)
        work.note("said it")
        return Result(metrics={"length": float(len(text))}, notes=["ho"])

    steps.step = step
    told: list[Event] = []
    done = execute(job(store, inputs={"word": given}), told.append)
    assert (store.fetch(done.outputs["words"]) / "words").read_text() == "hohoho"
    assert done.metrics == {"length": 6.0}
    assert done.notes == ["ho"]
    assert done.seconds > 0
    assert done.peak_memory == 0, "nobody looked"
    assert told == [Note("said it")]


def test_its_scratch_folder_is_gone_however_it_ends(steps: SimpleNamespace, store: Store) -> None:
    folders: list[Path] = []

    def step(work: Workspace) -> Result:
        folders.append(work.scratch)
        raise ValueError("no such shape")

    steps.step = step
    with pytest.raises(StepFailed):
        execute(job(store), lambda _: None)
    assert not folders[0].exists()


def test_an_unexpected_exception_names_its_place(steps: SimpleNamespace, store: Store) -> None:
    def step(work: Workspace) -> Result:
        raise ValueError("no such shape")

    steps.step = step
    with pytest.raises(StepFailed, match="no such shape") as caught:
        execute(job(store), lambda _: None)
    assert "test_dispatch.py:" in str(caught.value)


def test_an_error_of_ours_stays_what_it_is(steps: SimpleNamespace, store: Store) -> None:
    def step(work: Workspace) -> Result:
        raise InputError("the data is empty", where="data.factory")

    steps.step = step
    with pytest.raises(InputError, match="the data is empty"):
        execute(job(store), lambda _: None)


def test_an_input_that_is_gone_is_an_error_of_the_store(
    steps: SimpleNamespace, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/word").write_text("ho")
    given = store.put(tmp_path / "in", "word")
    (Path(store.root) / "artifacts" / given.sha256 / "word").write_text("ha")
    with pytest.raises(StoreError, match="missing or corrupted"):
        execute(job(store, inputs={"word": given}), lambda _: None)


class FakeCluster:
    """One worker that answers, or does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Any, begun: bool = True) -> None:
        self.cancelled = threading.Event()
        self.channel = SimpleNamespace(drain=SimpleNamespace(remote=self._drain))
        self.ended: list[object] = []
        self.lost: HoneError | None = None
        self._answer = answer
        self._events: list[Event] = [Begun(), Note("at work")] if begun else []
        remote = SimpleNamespace(remote=lambda *_: "step")
        monkeypatch.setattr(module, "_REMOTE", SimpleNamespace(options=lambda **_: remote))
        monkeypatch.setattr(ray, "wait", self._wait)
        monkeypatch.setattr(ray, "get", self._get)
        monkeypatch.setattr(ray, "cancel", lambda reference, force: self.ended.append(reference))

    def start(self) -> None:
        pass

    def gone(self) -> HoneError | None:
        return self.lost

    def _drain(self, _key: str) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _wait(self, references: list, timeout: float) -> tuple[list, list]:
        return (references, []) if self._answer is not None else ([], references)

    def _get(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


DONE = {"outputs": {}, "metrics": {}, "params": {}, "facts": {}, "notes": [], "seconds": 1.0}


def test_events_come_through_without_the_first(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    cluster: Any = FakeCluster(monkeypatch, DONE)
    told: list[Event] = []
    assert dispatch(job(store), cluster, told.append).seconds == 1.0
    assert told == [Note("at work")]
    assert cluster.ended == []


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ({"error": InputError("no data").to_dict()}, InputError, "no data"),
        (WorkerCrashedError(), StepCrashed, "the worker process died (killed, out of memory"),
        (RayTaskError("step", "", ValueError("odd")), StepFailed, "odd"),
        (ray.exceptions.NodeDiedError("gone"), StepCrashed, "Ray lost the worker: gone"),
    ],
)
def test_how_a_worker_ends_is_named(
    monkeypatch: pytest.MonkeyPatch, store: Store, answer: Any, kind: type, said: str
) -> None:
    cluster: Any = FakeCluster(monkeypatch, answer)
    with pytest.raises(HoneError) as caught:
        dispatch(job(store), cluster, lambda _: None)
    assert type(caught.value) is kind
    assert said in str(caught.value)


def test_a_cluster_that_is_gone_is_named_instead_of_the_worker(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    cluster: Any = FakeCluster(monkeypatch, ActorDiedError())
    cluster.lost = HoneError("Ray's node process ended")
    with pytest.raises(HoneError, match="node process ended"):
        dispatch(job(store), cluster, lambda _: None)
    assert cluster.ended == [], "nobody is left who could be asked"
    waiting: Any = FakeCluster(monkeypatch, None)
    waiting.lost = cluster.lost
    waiting.cancelled.set()
    with pytest.raises(HoneError, match="node process ended"):
        dispatch(job(store), waiting, lambda _: None)


def test_time_counts_once_the_worker_has_begun(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    cluster: Any = FakeCluster(monkeypatch, None)
    with pytest.raises(StepTimeout, match=r"longer than 0\.01 s"):
        dispatch(job(store, timeout=0.01), cluster, lambda _: None)
    assert cluster.ended == ["step"], "it does not go on"
    waiting: Any = FakeCluster(monkeypatch, None, begun=False)
    threading.Timer(0.1, waiting.cancelled.set).start()
    with pytest.raises(HoneError, match="interrupted"):
        dispatch(job(store, timeout=0.01), waiting, lambda _: None)
    assert waiting.ended == ["step"]
