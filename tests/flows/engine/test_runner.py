"""The step runner: what is kept is verified, what is broken is made anew, and nothing is made twice."""

from __future__ import annotations

import threading
from pathlib import Path

import made_runs as made
import pytest
from made_runs import NotingObserver, NotingTracker
from prefect_hone.flows.engine import runner as engine
from prefect_hone.flows.engine.records import record_name
from prefect_hone.flows.engine.runner import Runner
from prefect_hone.flows.engine.session import Session
from prefect_hone.ray_workers.dispatch import Done, StepJob
from prefect_hone.ray_workers.events import Metric, Note
from prefect_hone.ray_workers.store.artifacts import Artifact
from prefect_hone.recipe.errors import StepFailed
from prefect_hone.recipe.model import ModelFactory
from prefect_hone.tasks.specs.export import ExportSpec
from prefect_hone.tasks.steps import EXPORT, Call


class Worker:
    """Stands for Ray: computes a step here, and counts."""

    def __init__(self, session: Session, scratch: Path) -> None:
        self.session = session
        self.scratch = scratch
        self.jobs: list[StepJob] = []
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()
        self.error: StepFailed | None = None

    def __call__(self, job: StepJob, cluster: object, report) -> Done:
        self.jobs.append(job)
        self.begun.set()
        assert self.may_end.wait(10)
        if self.error is not None:
            raise self.error
        folder = self.scratch / f"out-{len(self.jobs)}"
        folder.mkdir()
        (folder / "model.onnx").write_text("graph")
        report(Metric(name="loss", value=0.5, step=1, time_ms=7))
        report(Note(text="by the way"))
        graph = self.session.store.put(folder, "onnx")
        return Done(outputs={"graph": graph}, metrics={"m": 1.0}, params={"p": "x"}, facts={},
                    notes=["worth telling"], seconds=2.5, peak_memory=99)  # fmt: skip


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return made.session(tmp_path)


@pytest.fixture
def worker(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    made_worker = Worker(session, tmp_path)
    monkeypatch.setattr(engine, "dispatch", made_worker)
    return made_worker


def runner(session: Session) -> Runner:
    return Runner(session, NotingTracker(), None)


def step(label: str = "export", **options: object) -> Call:
    return EXPORT.call(label, ExportSpec(model=ModelFactory(factory="mine:model")), **options)


INPUTS = {"weights": made.artifact("weights"), "inputs": made.artifact("inputs")}


def observer(session: Session) -> NotingObserver:
    assert isinstance(session.observer, NotingObserver)
    return session.observer


def held(session: Session, artifact: Artifact) -> Path:
    return next(p for p in Path(artifact.uri).rglob("*") if p.is_file())


def test_a_step_is_computed_once_and_then_kept(session: Session, worker: Worker) -> None:
    first = runner(session).run(step(), INPUTS)
    again = runner(session).run(step(), INPUTS)
    assert (first.cached, again.cached) == (False, True)
    assert len(worker.jobs) == 1
    assert again.artifact("graph") == first.artifact("graph")
    assert observer(session).told == [("started", "export"), ("done", "export"), ("kept", "export")]


def test_other_inputs_are_another_step(session: Session, worker: Worker) -> None:
    runner(session).run(step(), INPUTS)
    runner(session).run(step(), {**INPUTS, "weights": made.artifact("others")})
    assert len({job.key for job in worker.jobs}) == 2


@pytest.mark.parametrize("harm", ["bytes", "gone"])
def test_a_kept_result_is_verified_and_a_broken_one_made_anew_and_told(
    session: Session, worker: Worker, harm: str
) -> None:
    first = runner(session).run(step(), INPUTS)
    file = held(session, first.artifact("graph"))
    if harm == "bytes":
        file.chmod(0o644)
        file.write_text("GRAPH")
    else:
        file.unlink()
    second = runner(session)
    again = second.run(step(), INPUTS)
    assert not again.cached
    assert len(worker.jobs) == 2
    assert held(session, again.artifact("graph")).read_text() == "graph"
    assert any("missing or corrupted" in note for note in second.notes), second.notes
    assert runner(session).run(step(), INPUTS).cached


def test_a_record_that_cannot_be_read_is_as_none(session: Session, worker: Worker) -> None:
    result = runner(session).run(step(), INPUTS)
    session.store.write_record(record_name(step(), result.key), {"of": "another version"})
    assert not runner(session).run(step(), INPUTS).cached


def test_a_failed_step_is_not_kept(session: Session, worker: Worker) -> None:
    worker.error = StepFailed("no such operator")
    with pytest.raises(StepFailed):
        runner(session).run(step(), INPUTS)
    worker.error = None
    assert not runner(session).run(step(), INPUTS).cached


def test_two_runs_do_not_compute_the_same_step_at_once(session: Session, worker: Worker) -> None:
    worker.may_end.clear()
    results = []

    def go() -> None:
        results.append(runner(session).run(step(), INPUTS))  # a runner each, as two runs have

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert worker.begun.wait(10)
    waited = threading.Event()
    for _ in range(200):
        if any("waits" in n or "wait" in n for n in observer(session).notes):
            break
        waited.wait(0.02)
    assert len(worker.jobs) == 1
    assert any(n.startswith("export: another run") for n in observer(session).notes)
    worker.may_end.set()
    for thread in threads:
        thread.join(10)
    assert len(worker.jobs) == 1
    assert sorted(result.cached for result in results) == [False, True]
    assert list((session.settings.home / "locks").iterdir()) == []


def test_variants_that_come_to_the_same_bytes_meet_in_one_run(
    session: Session, worker: Worker
) -> None:
    one = runner(session)
    worker.may_end.clear()
    results = []
    threads = [
        threading.Thread(target=lambda n=name: results.append(one.run(step(f"export {n}"), INPUTS)))
        for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    assert worker.begun.wait(10)
    worker.may_end.set()
    for thread in threads:
        thread.join(10)
    assert len(worker.jobs) == 1
    assert {result.label for result in results} == {"export a", "export b"}


def test_checkpoints_are_dropped_once_their_step_is_done(session: Session, worker: Worker) -> None:
    from dataclasses import replace

    call = step()
    training = replace(call, step=replace(call.step, keeps_checkpoints=True))

    def leave_checkpoints(job: StepJob) -> Path:
        folder = Path(session.settings.store) / "training" / job.lineage
        (folder / "step-10").mkdir(parents=True)
        return folder

    class Training(Worker):
        def __call__(self, job: StepJob, cluster: object, report) -> Done:
            self.left = leave_checkpoints(job)
            return super().__call__(job, cluster, report)

    trainer = Training(session, worker.scratch)
    engine.dispatch = trainer  # type: ignore[assignment] # the fixture puts it back
    trainer.error = StepFailed("the loss is NaN")
    with pytest.raises(StepFailed):
        runner(session).run(training, INPUTS)
    assert trainer.left.is_dir(), "a step that failed goes on from them"
    trainer.left.rename(trainer.left.with_name("aside"))
    trainer.error = None
    runner(session).run(training, INPUTS)
    assert not trainer.left.exists()


def test_numbers_go_to_the_run_that_they_are_of(session: Session, worker: Worker) -> None:
    one = runner(session)
    one.run(step("compile a", candidate="fp32@onnxruntime-cpu"), INPUTS)
    tracker = one.tracker
    assert isinstance(tracker, NotingTracker)
    metrics = tracker.told_metrics("fp32@onnxruntime-cpu")
    assert (metrics["loss"], metrics["m"], metrics["export/seconds"]) == (0.5, 1.0, 2.5)
    assert metrics["export/peak_bytes"] == 99
    assert tracker.told_params("fp32@onnxruntime-cpu") == {"p": "x"}
    again = runner(session)
    again.run(step("compile a", candidate="fp32@onnxruntime-cpu"), INPUTS)
    assert isinstance(again.tracker, NotingTracker)
    tags = again.tracker.told_tags("fp32@onnxruntime-cpu")
    assert tags == {"hone.export_computed_in": "id-of-fp32@onnxruntime-cpu"}


def test_a_note_is_told_once(session: Session, worker: Worker) -> None:
    one = runner(session)
    one.run(step(), INPUTS)
    one.run(step(), INPUTS)
    assert one.notes == ["export: worth telling"]
