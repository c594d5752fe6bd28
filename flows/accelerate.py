"""The flow: from a recipe to the champion."""

from __future__ import annotations

import contextlib
import time
from typing import Any, cast
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingContextError
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from ..ray_workers.cluster import cores, require_capacity
from ..ray_workers.store.artifacts import Artifact
from ..recipe.schema import Recipe
from ..tasks.outcome import Outcome
from ..tasks.steps import TRAIN
from ..tasks.tracking.tracker import PARENT, Tracker
from .engine.conclude import conclude
from .engine.layout import candidate_name, check_targets, lay_out, measure
from .engine.pinned_model import pinned
from .engine.plan import make_plan
from .engine.prefect_tasks import Steps, need
from .engine.publish import publish
from .engine.runner import Runner
from .engine.session import Session, current
from .engine.user_code import pack, source_commit


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
        recipe: All that is asked for.

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
    check_targets(recipe)
    plan = make_plan(recipe, session)
    if plan.to_compute:
        session.cluster.prepare()
    tracker = Tracker(
        session.settings.tracking,
        session.settings.artifacts,
        recipe.name,
        session.settings.journals,
    )
    tags = _tags(recipe, session)
    run_id = tracker.open(f"{recipe.name} {time.strftime('%Y-%m-%d %H:%M:%S')}", tags)
    status = "FAILED"
    try:
        code = pack(session.code, session.store) if session.code is not None else None
        runner = Runner(session, tracker, code)
        _describe_run(recipe, tracker, session, code)
        if plan.starts_workers:
            each = recipe.train.resources
            capacity = session.cluster.capacity()
            if not recipe.train.wait_for_workers:
                require_capacity(capacity, recipe.train.mesh.least_workers, each.cpus, each.gpus)
        outcome = _measure_and_promote(recipe, session, runner, run_id, tags)
        status = "FINISHED" if outcome.champion is not None else "FAILED"
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        session.cluster.cancel()
        raise
    finally:
        if not tracker.close(status):
            session.observer.note(
                "MLflow does not answer: what is not sent yet is kept and sent when the next run "
                "starts"
            )
        for problem in tracker.problems:
            session.observer.note(problem)
    return outcome


def _measure_and_promote(
    recipe: Recipe, session: Session, runner: Runner, run_id: str, tags: dict[str, str]
) -> Outcome:
    steps = Steps(runner)
    runner.tracker.child(TRAIN.name, "train", {**_recipe_tags(recipe), "hone.kind": "train"})
    runner.tracker.params(TRAIN.name, _flat("train", recipe.train.model_dump(mode="json")))
    _start_candidates(recipe, runner.tracker)  # before a step that is kept tells of itself
    fixed = pinned(recipe, session)
    way = lay_out(fixed, steps)
    need(way.check)
    need(way.train)
    runner.tracker.finish(TRAIN.name, "FINISHED")
    able = []
    for candidate in way.candidates:
        if candidate.validated is not None:
            candidate.validated.wait()
            if candidate.validated.state.is_completed():
                able.append(candidate)
    for step in (way.reference, way.export):
        if not able:
            need(step)
    measured = None
    if able:
        measured = measure(fixed, way, able, steps, cores())
        need(measured)
    outcome = conclude(recipe, session, runner, run_id, tags, way, measured, steps)
    publish(recipe, outcome)
    return outcome


def _tag_flow_run(recipe: Recipe) -> None:
    run_id = flow_run.id
    if run_id is not None:
        with get_client(sync_client=True) as client:
            tags = {*flow_run.tags, "hone", recipe.name}
            client.update_flow_run(UUID(str(run_id)), tags=tags)


def _start_candidates(recipe: Recipe, tracker: Tracker) -> None:
    for variant in recipe.variants:
        for target in recipe.targets:
            name = candidate_name(variant, target)
            tags = {
                **_recipe_tags(recipe),
                "hone.kind": "candidate",
                "hone.candidate": name,
                "hone.variant": variant.name,
                "hone.target": target.name,
            }
            tracker.child(name, name, tags)
            passes = [step.model_dump(mode="json") for step in variant.passes]
            settings = target.model_dump(mode="json")
            tracker.params(
                name,
                {
                    "variant": variant.name,
                    "target": target.name,
                    "passes": passes or "none",
                    **{f"target/{key}": value for key, value in settings.items()},
                },
            )


def _recipe_tags(recipe: Recipe) -> dict[str, str]:
    return {"hone.recipe": recipe.name, "hone.recipe_digest": recipe.digest()}


def _tags(recipe: Recipe, session: Session) -> dict[str, str]:
    from .. import __version__

    tags = {**_recipe_tags(recipe), "hone.kind": "pipeline", "hone.version": __version__}
    tags["mlflow.source.name"] = "prefect_hone.flows.accelerate"
    folder = session.code or session.place
    commit = source_commit(folder) if folder is not None else None
    tags["hone.source_commit"] = commit or f"prefect-hone {__version__}"
    with contextlib.suppress(MissingContextError):
        tags["hone.flow_run_id"] = str(flow_run.id or "")
    return {name: value for name, value in tags.items() if value}


def _describe_run(
    recipe: Recipe, tracker: Tracker, session: Session, code: Artifact | None
) -> None:
    import yaml

    plain = recipe.model_dump(mode="json")
    tracker.text(PARENT, yaml.safe_dump(plain, sort_keys=False), "recipe.yaml")
    if code is not None:
        tracker.folder(PARENT, session.store.fetch(code), "code")
    flat = {
        "model/factory": recipe.model.factory,
        **({"model/source": recipe.model.source} if recipe.model.source else {}),
        "data/factory": recipe.data.factory,
        "quality/metric": recipe.quality.name,
        "variants": ", ".join(v.name for v in recipe.variants),
        "targets": ", ".join(t.name for t in recipe.targets),
    }
    tracker.params(PARENT, flat)


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v for name, inner in value.items() for k, v in _flat(f"{prefix}/{name}", inner).items()
    }
