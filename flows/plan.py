"""What a run would do: which steps are kept, which would be computed, and what each needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ray_workers.artifacts import Artifact
from ..ray_workers.cluster import cores
from ..recipe.schema import Recipe
from ..tasks.steps import TRAIN, Call, cache_key
from .runner import find_record
from .session import Session
from .way import CandidateWay, lay_out, measure


@dataclass
class PlannedStep:
    """A step as the plan knows it.

    Attributes:
        call: The step.
        outputs: Its kept outputs; None where it would be computed.
        seconds: How long it took when it was computed (s), None where that is not known.
    """

    call: Call
    outputs: dict[str, Artifact] | None
    seconds: float | None

    @property
    def cached(self) -> bool:
        return self.outputs is not None


@dataclass
class Plan:
    """All steps in order, and candidates whose target does not run here."""

    steps: list[PlannedStep]
    candidates: list[CandidateWay[PlannedStep]]

    @property
    def to_compute(self) -> list[PlannedStep]:
        return [step for step in self.steps if not step.cached]


def make_plan(recipe: Recipe, session: Session) -> Plan:
    """Look every step up, computing nothing."""
    steps: list[PlannedStep] = []

    def look_up(
        call: Call,
        inputs: dict[str, tuple[PlannedStep, str]],
        after: Sequence[PlannedStep] = (),
    ) -> PlannedStep:
        digests: dict[str, str] = {}
        for name, (source, output) in inputs.items():
            if source.outputs is not None:
                digests[name] = source.outputs[output].sha256
        done = None
        if len(digests) == len(inputs):
            key = cache_key(call, digests, session.user_code)
            done = find_record(session.store, call, key)
        step = PlannedStep(call, done.outputs if done else None, done.seconds if done else None)
        steps.append(step)
        return step

    way = lay_out(recipe, look_up)
    able = [candidate for candidate in way.candidates if candidate.compiled is not None]
    if able:
        measure(recipe, way, able, look_up, cores())
    return Plan(steps, way.candidates)


def needs(recipe: Recipe, call: Call) -> str:
    """What a step reserves, in words."""
    if call.step is TRAIN:
        mesh, each = recipe.train.mesh, recipe.train.resources
        gpus = f", {each.gpus:g} GPU" if each.gpus else ""
        return f"{mesh.describe()} workers with {each.cpus:g} CPU{gpus} each"
    return "all cores, alone" if call.step.name == "benchmark" else f"{call.cpus:g} CPU"
