"""From a recipe to the champion, within a flow run; the flows beside it are made of these parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from ...ray_workers.cluster import require_capacity
from ...recipe.errors import HoneError, InputError
from ...recipe.machine_errors import machine_error
from ...recipe.schema import Recipe
from ...tasks.outcome import Outcome
from ...tasks.report.table import headline
from ...tasks.specs.benchmark import CHAMPION
from ...tasks.steps import GIVEN
from ...tasks.tracking.entries import RunStatus
from ...tasks.tracking.names import TRAINING
from ...tasks.tracking.registry import Promotable
from ..logs import about_run
from . import events
from .assets import of_model
from .conclude import conclude, measured_next
from .dead_flow_runs import HONE_TAG, claim_flow_run, end_dead_flow_runs
from .home import require_writable
from .lay_out import lay_out
from .lay_out_measurements import lay_out_benchmark, lay_out_comparison
from .layout import CandidateLayout, ChampionEntrant, Layout
from .plan import Plan, make_plan
from .prefect_tasks import Future, Steps, need, settled, settled_layout
from .promotion import promote_task, register_task
from .publish import publish
from .record import (
    promotable,
    promoted,
    record_outcome,
    record_results,
    record_start,
    registered,
    run_tags,
)
from .reporting import record_report
from .results import Results, Settled, StepResult
from .run import Run, open_run
from .run_count import counting, this_run
from .session import Session
from .surroundings import here


def run_pipeline(recipe: Recipe, session: Session) -> State[Outcome]:
    """Run a recipe in the current flow run; returns the state that the flow run ends in.

    Raises:
        InputError: What the recipe asks for can't be done.
        HoneError: A step that every candidate needs failed.
    """
    about_flow_run(recipe)
    name_flow_run(recipe)
    with closing_cluster(session):
        outcome = run_recipe(recipe, session)
    return final_state(outcome)


@contextlib.contextmanager
def closing_cluster(session: Session) -> Iterator[None]:
    """End what still works when the flow fails, and the cluster if the flow started it."""
    try:
        yield
    except BaseException:
        session.cluster.cancel()  # Prefect waits for the threads of running steps
        raise
    finally:
        if session.owns_cluster:
            session.cluster.close()


def told_by_state(work: Callable[[], State[Any]]) -> State[Any]:
    """Run a flow's work, and count it; a mistake or a failure becomes a state with its sentence.

    Raised, it would come with a traceback in the flow run's log.
    """
    claim_flow_run()
    with counting() as states:
        try:
            state = work()
        except HoneError as error:
            name = "InvalidInput" if isinstance(error, InputError) else "Failed"
            state = Failed(name=name, message=str(error), data=error)
        except Exception as error:
            trouble = machine_error(error)  # a full disk, whichever library noticed it
            if trouble is None:
                raise
            state = Failed(message=str(trouble), data=trouble)
        states.append(state)
    return state


def final_state(outcome: Outcome) -> State[Any]:
    """The state that tells what came of a run."""
    if outcome.winner is None:
        return Failed(name="NoCandidatePassed", message=outcome.why, data=outcome)
    name = None
    if outcome.champion is None:
        names = {"off": "NotPromoted", "dry-run": "DryRun", "approve": "AwaitingApproval"}
        name = names[outcome.promotion]
    message = f"{outcome.winner}: {outcome.why}"
    if outcome.pending is not None:
        message = headline(outcome)
    return Completed(name=name, message=message, data=outcome)


def run_recipe(recipe: Recipe, session: Session, flow: str = "accelerate") -> Outcome:
    """The work of a flow, within its flow run."""
    plan = session.plan or make_plan(recipe, session)
    if plan.to_compute:
        require_writable(session.settings)
        session.cluster.prepare()
    with open_run(recipe, session, run_tags(recipe, session, flow), plan.again) as run:
        this_run().steps_of(recipe.name, run.runner)
        record_start(run)  # before a step that is kept tells of itself
        if plan.starts_workers:
            require_workers(recipe, session)
        results = _take_steps(plan, run)
        session.observer.phase("deciding and promoting")
        outcome = conclude(recipe, run.run_id, results)
        record_results(run, results, outcome)
        this_run().outcome(outcome)
        events.candidates_judged(recipe, outcome)
        asked = promotable(run, outcome)
        if asked is not None:
            outcome = _promote(outcome, session.settings.tracking, asked)
        record_outcome(run, outcome)
        publish(run, outcome, record_report(run, results, outcome))
    return outcome


def about_flow_run(recipe: Recipe) -> None:
    """Count the current flow run under its recipe, and name both in its log."""
    this_run().recipe = recipe.name
    about_run(flow_run_id=str(flow_run.id or ""), recipe=recipe.name)


def require_workers(recipe: Recipe, session: Session) -> None:
    """Refuse a recipe whose workers the cluster has no room for, unless it waits for them.

    Raises:
        InputError: There is no room.
    """
    each = recipe.train.resources
    capacity = session.cluster.capacity()
    if not recipe.train.wait_for_workers:
        require_capacity(capacity, recipe.train.mesh.least_workers, each.cpus, each.gpus)


def _promote(outcome: Outcome, tracking: str, asked: Promotable) -> Outcome:
    """The winner into the registry, as far as the recipe's mode goes."""
    if outcome.promotion == "auto":
        promotion = of_model(promote_task, tracking, asked.model)(tracking, asked)
        events.promoted(asked, promotion)
        return promoted(outcome, promotion)
    found = register_task(tracking, asked, outcome.promotion)
    if outcome.promotion == "approve":
        events.approval_requested(asked, found)
    return registered(outcome, found)


def _take_steps(plan: Plan, run: Run) -> Results:
    """All steps up to validation, then the benchmark of the candidates that passed it, and once
    more of the best few.

    Raises:
        HoneError: A step that every candidate needs failed.
    """
    recipe = plan.recipe
    steps = Steps(run.runner)
    surroundings = here(run.session.allowed, run.session.code)
    champion = _given(plan)
    layout = lay_out(recipe, surroundings, steps, champion)
    need(layout.check)
    need(layout.train)
    run.tracker.finish(TRAINING, RunStatus.FINISHED)
    able = []
    for candidate in layout.candidates:
        if candidate.validated is not None:
            candidate.validated.wait()
            if candidate.validated.state.is_completed():
                able.append(candidate)
    for candidate in able:
        for look in candidate.looks:
            look.wait()  # they take processor time, and the benchmark wants it for itself
    for step in (layout.reference, layout.export):
        if not able:
            need(step)
    today, compared, first, measured = None, None, None, None
    if plan.champion is not None:
        same = plan.champion.same_as(
            (c.name, c.compiled.result().artifact("model").sha256, c.target)
            for c in able
            if c.compiled is not None
        )
        today = plan.champion.today.model_copy(update={"same_as": same})
        compared = _compare(recipe, steps, champion, layout, able)
        if same is not None or compared is None:
            champion = None  # it is timed as that candidate, or can't be opened
    if able:
        first = lay_out_benchmark(recipe, surroundings, steps, layout.shared, able, champion)
        measured = need(first)
    ended = settled_layout(layout)
    found = Results(ended, measured, (), (), today, compared)
    confirmed = None
    if first is not None and (names := measured_next(recipe, found)):
        best = [candidate for candidate in able if candidate.name in names]
        confirmed = need(
            lay_out_benchmark(recipe, surroundings, steps, layout.shared, best, champion, first)
        )
    return replace(
        found,
        confirmed=confirmed,
        steps=tuple(steps.results()),
        notes=tuple(run.runner.notes),
    )


def _given(plan: Plan) -> ChampionEntrant[Future] | None:
    """Today's champion as an input of the layout; None if the recipe compares with none."""
    found = plan.champion
    if found is None or found.artifact is None:
        return None
    sha256 = found.artifact.sha256
    given = StepResult(step=GIVEN, label=CHAMPION, key=sha256, cached=True, done=found.given)
    return found.entrant(cast(Future, given))  # Prefect passes on what is no future


def _compare(
    recipe: Recipe,
    steps: Steps,
    champion: ChampionEntrant[Future] | None,
    layout: Layout[Future],
    able: list[CandidateLayout[Future]],
) -> Settled | None:
    """The comparison of candidates with today's champion, if that could be validated."""
    if champion is None or layout.champion is None or not able:
        return None
    if settled(layout.champion).result is None:
        return None
    return settled(lay_out_comparison(recipe, steps, champion, layout.champion, able))


def name_flow_run(recipe: Recipe) -> None:
    """Name the current flow run after its recipe, and tag it."""
    run_id = flow_run.id
    if run_id is not None:
        with get_client(sync_client=True) as client:
            tags = {*flow_run.tags, HONE_TAG, recipe.name}
            client.update_flow_run(UUID(str(run_id)), name=recipe.name, tags=tags)
            with contextlib.suppress(Exception):  # it is the state of others, not of this run
                end_dead_flow_runs(client)
