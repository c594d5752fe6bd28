"""The flow: from a recipe to the champion."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from ..ray_workers.cluster import cores, require_capacity
from ..recipe.schema import Recipe
from ..tasks.outcome import Outcome
from ..tasks.tracking.entries import RunStatus
from ..tasks.tracking.names import TRAINING
from .engine.conclude import conclude
from .engine.lay_out import lay_out, lay_out_benchmark
from .engine.plan import make_plan
from .engine.prefect_tasks import Steps, need, settled_layout
from .engine.promotion import promote_task
from .engine.publish import publish
from .engine.record import (
    promotable,
    promoted,
    record_outcome,
    record_results,
    record_start,
    run_tags,
)
from .engine.results import Results
from .engine.run import Run, open_run
from .engine.session import Session, current
from .engine.surroundings import here


@flow(
    name="accelerate",
    description="Train, compress, compile, prove, promote: the fastest model that is good enough.",
    flow_run_name="{recipe.name}",
    task_runner=cast(Any, ThreadPoolTaskRunner(max_workers=2 * cores() + 1)),
    validate_parameters=True,
)
def accelerate(recipe: Recipe) -> State[Outcome]:
    """Run a recipe from training to the model registry.

    The flow run completes if there is a champion, and fails, in a state named
    `NoCandidatePassed`, if every candidate failed a gate; the outcome is the state's data.

    Args:
        recipe: The recipe.

    Raises:
        InputError: What the recipe asks for can't be done.
        HoneError: A step that every candidate needs failed.
    """
    session = current(recipe)
    _tag_flow_run(recipe)
    try:
        outcome = run_recipe(recipe, session)
    except BaseException:
        session.cluster.cancel()  # Prefect waits for the threads of running steps
        raise
    finally:
        if session.owns_cluster:
            session.cluster.close()
    if outcome.champion is None:
        return Failed(name="NoCandidatePassed", message=outcome.why, data=outcome)
    return Completed(message=f"{outcome.champion.candidate}: {outcome.why}", data=outcome)


def run_recipe(recipe: Recipe, session: Session) -> Outcome:
    """The flow's work, within a flow run."""
    plan = session.plan or make_plan(recipe, session)
    if plan.to_compute:
        session.cluster.prepare()
    with open_run(recipe, session, run_tags(recipe, session)) as run:
        record_start(run)  # before a step that is kept tells of itself
        if plan.starts_workers:
            each = recipe.train.resources
            capacity = session.cluster.capacity()
            if not recipe.train.wait_for_workers:
                require_capacity(capacity, recipe.train.mesh.least_workers, each.cpus, each.gpus)
        results = _take_steps(plan.recipe, run)
        session.observer.phase("deciding and promoting")
        outcome = conclude(recipe, run.run_id, results)
        record_results(run, results, outcome)
        asked = promotable(run, outcome)
        if asked is not None:
            outcome = promoted(outcome, promote_task(session.settings.tracking, asked))
        record_outcome(run, outcome)
        publish(recipe, outcome)
    return outcome


def _take_steps(recipe: Recipe, run: Run) -> Results:
    """All steps up to validation, then the benchmark of the candidates that passed it.

    Raises:
        HoneError: A step that every candidate needs failed.
    """
    steps = Steps(run.runner)
    surroundings = here(run.session.allowed, run.session.code)
    layout = lay_out(recipe, surroundings, steps)
    need(layout.check)
    need(layout.train)
    run.tracker.finish(TRAINING, RunStatus.FINISHED)
    able = []
    for candidate in layout.candidates:
        if candidate.validated is not None:
            candidate.validated.wait()
            if candidate.validated.state.is_completed():
                able.append(candidate)
    for step in (layout.reference, layout.export):
        if not able:
            need(step)
    measured = None
    if able:
        measured = need(lay_out_benchmark(recipe, surroundings, steps, layout.shared, able))
    return Results(
        settled_layout(layout), measured, tuple(steps.results()), tuple(run.runner.notes)
    )


def _tag_flow_run(recipe: Recipe) -> None:
    run_id = flow_run.id
    if run_id is not None:
        with get_client(sync_client=True) as client:
            tags = {*flow_run.tags, "hone", recipe.name}
            client.update_flow_run(UUID(str(run_id)), tags=tags)
