"""A run's state in MLflow is the one that is true, however it ended, and its steps are there."""

from __future__ import annotations

import csv
from pathlib import Path

import made_runs as made
import pytest
from made_runs import NotingObserver, NotingTracker, recipe
from prefect_hone.flows.engine import run as engine
from prefect_hone.flows.engine.run import open_run
from prefect_hone.flows.engine.runner import StepTaken
from prefect_hone.flows.engine.session import Session
from prefect_hone.tasks.tracking.entries import RunStatus
from prefect_hone.tasks.tracking.names import PARENT


class Closing(NotingTracker):
    ended: RunStatus | None = None
    keeps_unsent = True

    def open(self, name: str, tags: dict[str, str]) -> str:
        return "r1"

    def close(self, status: RunStatus, seconds: float = 20) -> bool:
        self.ended = status
        return self.answers


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Closing:
    told = Closing()
    monkeypatch.setattr(engine, "Tracker", lambda *_: told)
    return told


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return made.session(tmp_path)


@pytest.mark.parametrize("status", [RunStatus.FINISHED, RunStatus.FAILED])
def test_it_ends_as_it_is_told(session: Session, tracker: Closing, status: RunStatus) -> None:
    with open_run(recipe(), session, {"a": "b"}) as run:
        assert (run.run_id, run.tags) == ("r1", {"a": "b"})
        run.status = status
    assert tracker.ended is status


def test_it_is_failed_unless_it_is_told_otherwise(session: Session, tracker: Closing) -> None:
    with open_run(recipe(), session, {}):
        pass
    assert tracker.ended is RunStatus.FAILED


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError(), RunStatus.FAILED), (KeyboardInterrupt(), RunStatus.KILLED)],
)
def test_an_error_ends_it_whatever_it_was_told(
    session: Session, tracker: Closing, error: BaseException, status: RunStatus
) -> None:
    def go() -> None:
        with open_run(recipe(), session, {}) as run:
            run.status = RunStatus.FINISHED
            raise error

    with pytest.raises(type(error)):
        go()
    assert tracker.ended is status
    assert session.cluster.cancelled.is_set()


def test_its_steps_are_a_table_also_where_it_failed(session: Session, tracker: Closing) -> None:
    def go() -> None:
        with open_run(recipe(), session, {}) as run:
            run.runner.taken.append(StepTaken("check", "check", 1.25, True))
            run.runner.taken.append(StepTaken("compile", "compile a, b", 2.0, False))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        go()
    rows = list(csv.DictReader(tracker.told_texts(PARENT)["steps.csv"].splitlines()))
    assert rows == [
        {"step": "check", "label": "check", "seconds": "1.250", "kept": "yes"},
        {"step": "compile", "label": "compile a, b", "seconds": "2.000", "kept": ""},
    ]


def test_what_mlflow_did_not_take_is_told(session: Session, tracker: Closing) -> None:
    tracker.answers = False
    tracker.problems.append("MLflow refused a metric")
    with open_run(recipe(), session, {}):
        pass
    assert isinstance(session.observer, NotingObserver)
    first, second = session.observer.notes
    assert "MLflow does not answer" in first
    assert second == "MLflow refused a metric"


def test_what_could_not_be_kept_either_is_not_said_to_be(
    session: Session, tracker: Closing
) -> None:
    tracker.answers = tracker.keeps_unsent = False
    tracker.problems.append("the journal can't be written")
    with open_run(recipe(), session, {}):
        pass
    assert isinstance(session.observer, NotingObserver)
    assert session.observer.notes == ["the journal can't be written"]
