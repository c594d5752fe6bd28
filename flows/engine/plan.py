"""What a run would do: which steps are cached, which would be computed, and what each needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ray_workers.dispatch import Done
from ...recipe.schema import Recipe
from ...tasks.keys import cache_key
from ...tasks.steps import Call
from .lay_out import check_targets, lay_out, lay_out_benchmark, lay_out_training
from .layout import CandidateLayout, Layout
from .pinned_model import pinned
from .records import find_record
from .redo import asked_again, check_redo
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
    """

    recipe: Recipe
    steps: list[PlannedStep]
    layout: Layout[PlannedStep]

    @property
    def candidates(self) -> tuple[CandidateLayout[PlannedStep], ...]:
        return self.layout.candidates

    @property
    def to_compute(self) -> list[PlannedStep]:
        return [step for step in self.steps if not step.cached]

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
    layout = lay_out(fixed, surroundings, look_up)
    able = [candidate for candidate in layout.candidates if candidate.compiled is not None]
    if able:
        lay_out_benchmark(fixed, surroundings, look_up, layout.shared, able)
    check_redo(session.redo, [step.call for step in look_up.steps])
    return Plan(fixed, look_up.steps, layout)


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
