"""One run of the flow: its recipe, its session, and its run in MLflow."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...recipe.code_path import reserved_in
from ...recipe.schema import Recipe
from ...tasks.tracking.entries import RunStatus
from ...tasks.tracking.names import PARENT
from ...tasks.tracking.tracker import Tracker
from ..logs import about_run
from .runner import Runner
from .session import Session
from .shipped_code import shipped_code
from .user_code import pack


@dataclass
class Run:
    """A run of a recipe.

    Attributes:
        recipe: The recipe.
        session: Its session.
        tracker: MLflow.
        run_id: MLflow's id of the parent run.
        tags: Of the parent run.
        runner: Runs the steps.
        status: Final status of the parent run.
    """

    recipe: Recipe
    session: Session
    tracker: Tracker
    run_id: str
    tags: dict[str, str]
    runner: Runner
    status: RunStatus = RunStatus.FAILED


@contextlib.contextmanager
def open_run(
    recipe: Recipe,
    session: Session,
    tags: dict[str, str],
    again: frozenset[str] = frozenset(),
) -> Iterator[Run]:
    """A run in MLflow; it ends as `Run.status`, or on an error as FAILED or KILLED."""
    settings = session.settings
    tracker = Tracker(settings.tracking, settings.artifacts, recipe.name, settings.journals)
    run_id = tracker.open(f"{recipe.name} {time.strftime('%Y-%m-%d %H:%M:%S')}", tags)
    about_run(run_id=run_id)
    status, runner = RunStatus.FAILED, None
    try:
        code = None
        if session.code is not None:
            code = pack(session.code, session.store, session.recipe)
        runner = Runner(session, tracker, code, again)
        if session.code is not None:
            _tell_unused(runner, session.code, recipe)
        run = Run(recipe, session, tracker, run_id, tags, runner)
        yield run
        status = run.status
    except BaseException as error:
        status = RunStatus.FAILED if isinstance(error, Exception) else RunStatus.KILLED
        session.cluster.cancel()
        raise
    finally:
        if runner is not None and runner.taken:
            tracker.text(PARENT, _steps_table(runner), "steps.csv")
        if not tracker.close(status) and tracker.keeps_unsent:  # else a problem says what is lost
            session.observer.note(
                "MLflow does not answer: unsent data is kept, and sent when the next run starts"
            )
        for problem in tracker.problems:
            session.observer.note(problem)


def _steps_table(runner: Runner) -> str:
    """The steps that succeeded, as MLflow shows a table."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("step", "label", "seconds", "kept"))
    for step in runner.taken:
        rows.writerow((step.step, step.label, f"{step.seconds:.3f}", "yes" if step.cached else ""))
    return table.getvalue()


def _tell_unused(runner: Runner, folder: Path, recipe: Recipe) -> None:
    """Note what lies in the code folder as if it were used, and is not."""
    left_out = shipped_code(folder, recipe).left_out
    links = [name for name, why in left_out.items() if why.startswith("a link")]
    if links:
        runner.note(f"not shipped from the code folder, as links: {', '.join(links)}")
    if unused := reserved_in(folder):
        runner.note(
            f"not used from the code folder: {', '.join(unused)}, because Python or a library "
            "that Hone uses has a module of that name"
        )
