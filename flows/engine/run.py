"""One run of the flow: what is asked for, its surroundings, and its run in MLflow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ...recipe.schema import Recipe
from ...tasks.tracking.entries import RunStatus
from ...tasks.tracking.tracker import Tracker
from .runner import Runner
from .session import Session
from .user_code import pack


@dataclass
class Run:
    """Of a recipe.

    Attributes:
        recipe: What is asked for.
        session: The surroundings.
        tracker: MLflow.
        run_id: MLflow's id of the parent run.
        tags: Of the parent run.
        runner: Runs the steps.
        status: What the parent run ends as.
    """

    recipe: Recipe
    session: Session
    tracker: Tracker
    run_id: str
    tags: dict[str, str]
    runner: Runner
    status: RunStatus = RunStatus.FAILED


@contextlib.contextmanager
def open_run(recipe: Recipe, session: Session, tags: dict[str, str]) -> Iterator[Run]:
    """A run in MLflow, which ends in the state that is true: FAILED unless it is told otherwise."""
    settings = session.settings
    tracker = Tracker(settings.tracking, settings.artifacts, recipe.name, settings.journals)
    run_id = tracker.open(f"{recipe.name} {time.strftime('%Y-%m-%d %H:%M:%S')}", tags)
    status = RunStatus.FAILED
    try:
        code = pack(session.code, session.store) if session.code is not None else None
        run = Run(recipe, session, tracker, run_id, tags, Runner(session, tracker, code))
        yield run
        status = run.status
    except BaseException as error:
        status = RunStatus.FAILED if isinstance(error, Exception) else RunStatus.KILLED
        session.cluster.cancel()
        raise
    finally:
        if not tracker.close(status):
            session.observer.note(
                "MLflow does not answer: unsent data is kept, and sent when the next run starts"
            )
        for problem in tracker.problems:
            session.observer.note(problem)
