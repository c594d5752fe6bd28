"""What a run would do: which steps are cached, which would be computed, and what each needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ray_workers.dispatch import Done
from ...recipe.schema import Recipe
from ...tasks.confirm import MOST, may_measure_again
from ...tasks.keys import cache_key
from ...tasks.specs.base import Spec
from ...tasks.specs.benchmark import CHAMPION
from ...tasks.specs.check import CheckFacts
from ...tasks.steps import GIVEN, Call
from ...tasks.todays_champion import TodaysChampion
from .certainty import unsure_gates
from .champion_today import FoundChampion, find_champion
from .conclude import measured_next
from .lay_out import check_targets, lay_out, lay_out_training
from .lay_out_measurements import lay_out_benchmark, lay_out_comparison
from .layout import CandidateLayout, Layout
from .looks import in_words, turned_off
from .pinned_model import pinned
from .records import find_record
from .redo import asked_again, check_redo
from .results import Results, Settled, StepResult
from .session import Session
from .surroundings import here


@dataclass
class PlannedStep:
    """A step of a plan.

    Attributes:
        call: The step.
        done: Its cached result; None if it would be computed.
        again: It is to be computed whether or not it is cached (`--redo`).
    """

    call: Call
    done: Done | None
    again: bool = False

    @property
    def cached(self) -> bool:
        return self.done is not None

    @property
    def seconds(self) -> float | None:
        """How long it took when it was computed (s); None if unknown."""
        return None if self.done is None else self.done.seconds


@dataclass
class Plan:
    """What a run would do.

    Attributes:
        recipe: The recipe, with its model's files in the store.
        steps: All steps in order.
        layout: How they are connected.
        champion: Today's champion, if the recipe compares with it.
    """

    recipe: Recipe
    steps: list[PlannedStep]
    layout: Layout[PlannedStep]
    champion: FoundChampion | None = None

    @property
    def candidates(self) -> tuple[CandidateLayout[PlannedStep], ...]:
        return self.layout.candidates

    @property
    def to_compute(self) -> list[PlannedStep]:
        return [step for step in self.steps if not step.cached]

    @property
    def told(self) -> tuple[str, ...]:
        """What is known of gates before anything runs: certainty, and today's champion."""
        done = self.layout.check.done
        sizes = {} if done is None else done.facts_as(CheckFacts).data.sizes
        told = unsure_gates(self.recipe, sizes.get("test"))
        if off := in_words(turned_off(self.recipe)):
            told.append(f"not looked at: {'; '.join(off)}")
        if self.champion is not None:
            today = self.champion.today
            beside = f"{today.name}: is measured beside the candidates"
            told.append(f"champion: {today.unmeasured}" if today.unmeasured else beside)
        return tuple(told)

    @property
    def again(self) -> frozenset[str]:
        """Labels of the steps that are computed whether or not they are cached."""
        return frozenset(step.call.label for step in self.steps if step.again)

    @property
    def starts_workers(self) -> bool:
        """Whether the recipe's training, on its own workers, would be computed."""
        return self.layout.train.call.starts_workers and not self.layout.train.cached


def make_plan(recipe: Recipe, session: Session) -> Plan:
    """Look up every step, without computing anything.

    Raises:
        InputError: A target of the recipe is not installed, what it names can't be read, or there
            is no such step to do again.
    """
    surroundings = here(session.allowed, session.code)
    check_targets(recipe, surroundings)
    look_up = _LookUp(session)
    fixed = pinned(recipe, session)
    champion = find_champion(fixed, session)
    entrant = None
    if champion is not None and champion.artifact is not None:
        entrant = champion.entrant(PlannedStep(GIVEN.call(CHAMPION, Spec()), champion.given))
    layout = lay_out(fixed, surroundings, look_up, entrant)
    able = [candidate for candidate in layout.candidates if candidate.compiled is not None]
    compared = None
    if able and entrant is not None and layout.champion is not None:
        compared = lay_out_comparison(fixed, look_up, entrant, layout.champion, able)
    if able:
        made = [(c.name, _sha256(c.compiled), c.target) for c in able]
        same = None if champion is None else champion.same_as(made)
        timed = None if same else entrant
        first = lay_out_benchmark(fixed, surroundings, look_up, layout.shared, able, timed)
        today = None if champion is None else champion.today.model_copy(update={"same_as": same})
        best = _best(fixed, layout, first, today, compared)
        if best is None and may_measure_again(fixed, len(able)):
            unknown = lay_out_benchmark(
                fixed, surroundings, look_up, layout.shared, able[:MOST], timed, first
            )
            unknown.done = None  # which candidates they are is not known yet
        elif best:
            again = [candidate for candidate in able if candidate.name in best]
            lay_out_benchmark(fixed, surroundings, look_up, layout.shared, again, timed, first)
    check_redo(session.redo, [step.call for step in look_up.steps])
    return Plan(fixed, look_up.steps, layout, champion)


def _best(
    recipe: Recipe,
    layout: Layout[PlannedStep],
    first: PlannedStep,
    today: TodaysChampion | None,
    compared: PlannedStep | None,
) -> tuple[str, ...] | None:
    """The candidates that are measured again; None if a step that tells is not cached."""
    told = [first, *layout.steps, *([] if compared is None else [compared])]
    if any(step.done is None for step in told):
        return None
    results = Results(
        layout.map(_settled),
        _settled(first).result,
        (),
        champion=today,
        compared=None if compared is None else _settled(compared),
    )
    return measured_next(recipe, results)


def _settled(step: PlannedStep) -> Settled:
    if step.done is None:
        return Settled(None)
    call = step.call
    return Settled(
        StepResult(step=call.step, label=call.label, key="", cached=True, done=step.done)
    )


def _sha256(compiled: PlannedStep | None) -> str:
    done = None if compiled is None else compiled.done
    return "" if done is None else done.outputs["model"].sha256


def plan_training(recipe: Recipe, session: Session) -> tuple[Recipe, list[PlannedStep]]:
    """The recipe with its model's files in the store, and its steps up to the reference.

    Raises:
        InputError: What it names can't be read, or there is no such step to do again.
    """
    look_up = _LookUp(session)
    fixed = pinned(recipe, session)
    lay_out_training(fixed, look_up)
    check_redo(session.redo, [step.call for step in look_up.steps])
    return fixed, look_up.steps


class _LookUp:
    """Looks steps up in the cache instead of running them.

    Args:
        session: The session.

    Attributes:
        steps: All steps in order.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.steps: list[PlannedStep] = []

    def __call__(
        self,
        call: Call,
        inputs: dict[str, tuple[PlannedStep, str]],
        after: Sequence[PlannedStep] = (),
    ) -> PlannedStep:
        digests: dict[str, str] = {}
        for name, (source, output) in inputs.items():
            if source.done is not None:
                digests[name] = source.done.outputs[output].sha256
        sources = [*(source for source, _ in inputs.values()), *after]
        again = asked_again(call, self._session.redo) or any(source.again for source in sources)
        done = None
        if len(digests) == len(inputs) and not again:
            key = cache_key(call, digests, self._session.user_code)
            done = find_record(self._session.store, call, key)
        step = PlannedStep(call, done, again)
        self.steps.append(step)
        return step


def needs(recipe: Recipe, call: Call) -> str:
    """What a step reserves, in words."""
    if call.starts_workers:
        mesh, each = recipe.train.mesh, recipe.train.resources
        gpus = f", {each.gpus:g} GPU" if each.gpus else ""
        return f"{mesh.describe()} workers with {each.cpus:g} CPU{gpus} each"
    return "all cores, alone" if call.step.holds_the_machine else f"{call.cpus:g} CPU"
