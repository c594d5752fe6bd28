"""Training alone: check, train, and the trained model's quality, within a flow run."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from ...recipe.schema import Recipe
from ...recipe.strict import Strict
from .home import require_writable
from .lay_out import lay_out_training
from .pipeline import about_flow_run, closing_cluster, name_flow_run, require_workers
from .plan import plan_training
from .prefect_tasks import Steps, need
from .record import record_training, record_training_start, run_tags
from .results import StepResult
from .run import open_run
from .run_count import this_run
from .session import Session


class Trained(Strict):
    """What came of training.

    Attributes:
        recipe: Name of the recipe.
        run_id: MLflow's id of the parent run.
        weights: sha256 of the weights.
        metrics: Of the trained model on the test split, under MLflow's names.
        cached: Steps whose cached result was used.
    """

    recipe: str
    run_id: str
    weights: str
    metrics: dict[str, float]
    cached: tuple[str, ...] = Field(())


def run_training(recipe: Recipe, session: Session) -> State[Trained]:
    """Train a recipe's model in the current flow run; returns the state that the run ends in.

    Raises:
        InputError: What the recipe asks for can't be done.
        HoneError: A step failed.
    """
    about_flow_run(recipe)
    name_flow_run(recipe)
    with closing_cluster(session):
        trained = _train(recipe, session)
    quality = trained.metrics.get(f"quality/{recipe.quality.name}")
    shown = "" if quality is None else f"{recipe.quality.name} {quality:.4g} on the test split"
    return Completed(message=shown or "trained", data=trained)


def _train(recipe: Recipe, session: Session) -> Trained:
    fixed, planned = plan_training(recipe, session)
    again = frozenset(step.call.label for step in planned if step.again)
    if any(not step.cached for step in planned):
        require_writable(session.settings)
        session.cluster.prepare()
    with open_run(recipe, session, run_tags(recipe, session, "train"), again) as run:
        this_run().steps_of(recipe.name, run.runner)
        record_training_start(run)
        if any(step.call.starts_workers and not step.cached for step in planned):
            require_workers(recipe, session)
        laid = lay_out_training(fixed, Steps(run.runner))
        checked, trained, reference = (need(step.handle) for step in laid)
        record_training(run, checked, trained, reference)
        return Trained(
            recipe=recipe.name,
            run_id=run.run_id,
            weights=trained.artifact("weights").sha256,
            metrics=reference.done.metrics,
            cached=_cached(checked, trained, reference),
        )


def _cached(*results: StepResult) -> tuple[str, ...]:
    return tuple(result.label for result in results if result.cached)
