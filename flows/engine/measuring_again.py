"""Measuring the champion again: has the data or the machine changed since it was promoted?

The data are read again, and the champion's parity, quality and latency measured again; nothing is
trained, compressed or compiled, and nothing in the registry moves.
"""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from ...recipe.errors import HoneError, InputError
from ...recipe.gates import NO_GATES
from ...recipe.measures import BOUNDS, MEASURES, is_of_champion
from ...recipe.schema import Recipe
from ...recipe.strict import Strict
from ...tasks.outcome import Outcome
from ...tasks.report.table import failure
from ...tasks.tracking.champions import RegisteredVersion, read_version
from .lay_out import candidate_name
from .pipeline import about_flow_run, closing_cluster, name_flow_run, run_recipe
from .plan import Plan, make_plan
from .session import Session

#: Steps that are computed although their results are in the store. They read the data themselves.
#: The check is not among them, since a variant that it calibrates would be another.
_AGAIN = ("reference", "validate", "benchmark")


class Compared(Strict):
    """A measure at the promotion and now.

    Attributes:
        name: MLflow's name.
        then: Its value at the promotion.
        now: Its value now.
        apart: Whether the 95 % intervals of the two don't overlap; None without intervals.
    """

    name: str
    then: float
    now: float
    apart: bool | None = None


class MeasuredAgain(Strict):
    """What came of it.

    Attributes:
        version: The version that was measured.
        compared: The measures that both have.
        failed_gates: Gates that it fails now, in words.
        outcome: Of the run that measured it.
    """

    version: RegisteredVersion
    compared: tuple[Compared, ...]
    failed_gates: tuple[str, ...]
    outcome: Outcome


def measure_again(recipe: Recipe, session: Session, which: str) -> State[Any]:
    """Measure the champion again in the current flow run; returns the state that it ends in.

    Args:
        recipe: The recipe that it was made by.
        session: The session.
        which: Alias or number of the version.

    Raises:
        InputError: There is no such version, the recipe is another, or the store has not got what
            it was made from.
        HoneError: A step failed.
    """
    about_flow_run(recipe)
    version = read_version(session.settings.tracking, recipe.registry.model, which)
    only = _only(recipe, version)
    name_flow_run(recipe)
    with closing_cluster(session):
        plan = _plan(only, session, version)
        outcome = run_recipe(only, session.planned(plan), flow="benchmark")
    again = _compare(recipe, version, outcome)
    _publish(recipe, again)
    return _state(again)


def _only(recipe: Recipe, version: RegisteredVersion) -> Recipe:
    """The recipe with nothing but the version's candidate, and without promotion.

    Gates that compare with today's champion are for those that would replace it.
    """
    gates = recipe.gates
    if not isinstance(gates, str):
        gates = tuple(gate for gate in gates if not is_of_champion(gate.metric))
        gates = gates or (NO_GATES if recipe.gates else ())
    select = Recipe.model_fields["select"].default if recipe.compares_with_champion else None
    for variant in recipe.variants:
        for target in recipe.targets:
            if candidate_name(variant, target) == version.candidate:
                return recipe.model_copy(
                    update={
                        "variants": (variant,),
                        "targets": (target,),
                        "promotion": "off",
                        "gates": gates,
                        "select": select or recipe.select,
                    }
                )
    raise InputError(
        f"the recipe has no candidate {version.candidate}, which version {version.version} is",
        where=f"recipe {recipe.name}",
        do="give the recipe that the version was made by: it is recipe.yaml of the run "
        f"{version.parent_run}",
    )


def _plan(recipe: Recipe, session: Session, version: RegisteredVersion) -> Plan:
    """A plan in which only measurements are computed, of the very bytes that are registered."""
    plan = make_plan(recipe, session)
    for step in plan.steps:
        if step.call.step.name in _AGAIN:
            step.again = True
        elif step.done is None:
            raise InputError(
                f"'{step.call.label}' is not in this worker's store, so version {version.version} "
                "can't be measured without making it again",
                where=session.store.url,
                do="use the store that it was made in (HONE_STORE), or run `accelerate`",
            )
    (candidate,) = plan.candidates
    compiled = candidate.compiled
    made = None if compiled is None or compiled.done is None else compiled.done.outputs["model"]
    if made is None or made.sha256 != version.sha256:
        raise InputError(
            f"the recipe makes other bytes now than those of version {version.version}: it, its "
            "code or a library has changed",
            where=f"models:/{version.model}/{version.version}",
            do="run `accelerate` to measure and promote what it makes now",
        )
    return plan


def _compare(recipe: Recipe, version: RegisteredVersion, outcome: Outcome) -> MeasuredAgain:
    (candidate,) = outcome.candidates
    if candidate.error is not None:
        raise HoneError(f"{candidate.name}: {candidate.error}")
    compared = []
    for measure in MEASURES.values():
        name = measure.mlflow(recipe.quality.name)
        if name in version.metrics and name in candidate.metrics:
            then, now = version.metrics, candidate.metrics
            apart = _apart(name, then, now)
            compared.append(Compared(name=name, then=then[name], now=now[name], apart=apart))
    return MeasuredAgain(
        version=version,
        compared=tuple(compared),
        failed_gates=tuple(failure(gate) for gate in candidate.gates if not gate.passed),
        outcome=outcome,
    )


def _apart(name: str, then: dict[str, float], now: dict[str, float]) -> bool | None:
    low, high = (f"{name}{bound}" for bound in BOUNDS)
    if not all(bound in values for bound in (low, high) for values in (then, now)):
        return None
    return now[low] > then[high] or now[high] < then[low]


def _publish(recipe: Recipe, again: MeasuredAgain) -> None:
    create_table_artifact(
        table=[
            {
                "measure": row.name,
                "at promotion": f"{row.then:.4g}",
                "now": f"{row.now:.4g}",
                "changed": {True: "yes", False: "no", None: ""}[row.apart],
            }
            for row in again.compared
        ],
        key=f"{recipe.name.replace('_', '-')}-measured-again",
        description=_sentence(again),
    )


def _sentence(again: MeasuredAgain) -> str:
    version = again.version
    place = f"models:/{version.model} version {version.version} ({version.candidate})"
    if again.failed_gates:
        return f"{place} fails now: {', '.join(again.failed_gates)}"
    changed = [
        f"{row.name} {row.now:.4g} (was {row.then:.4g})" for row in again.compared if row.apart
    ]
    return f"{place} passes every gate" + (
        f"; beyond its 95 % interval: {', '.join(changed)}" if changed else ", and is as it was"
    )


def _state(again: MeasuredAgain) -> State[Any]:
    if again.failed_gates:
        return Failed(name="ChampionFails", message=_sentence(again), data=again)
    changed = any(row.apart for row in again.compared)
    name = "ChampionChanged" if changed else None
    return Completed(name=name, message=_sentence(again), data=again)
