"""What a run would do: which steps are kept, which would be computed, and what each needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from ...ray_workers.dispatch import Done
from ...recipe.schema import Recipe
from ...recipe.strict import Strict
from ...tasks.keys import cache_key
from ...tasks.specs.check import CheckFacts, MemoryFact
from ...tasks.steps import Call
from .layout import CandidateLayout, Layout, check_targets, lay_out, lay_out_benchmark
from .pinned_model import pinned
from .runner import find_record
from .session import Session
from .surroundings import here


@dataclass
class PlannedStep:
    """A step as the plan knows it.

    Attributes:
        call: The step.
        done: What came of it, where that is kept; None where it would be computed.
    """

    call: Call
    done: Done | None

    @property
    def cached(self) -> bool:
        return self.done is not None

    @property
    def seconds(self) -> float | None:
        """How long it took when it was computed (s); None where that is not known."""
        return None if self.done is None else self.done.seconds


@dataclass
class Plan:
    """What a run would do.

    Attributes:
        recipe: The recipe, with what it names as the store keeps it.
        steps: All steps in order.
        layout: What they make.
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
    def starts_workers(self) -> bool:
        """Whether the recipe's training, on workers of its own, would be computed."""
        return self.layout.train.call.starts_workers and not self.layout.train.cached


def make_plan(recipe: Recipe, session: Session) -> Plan:
    """Look every step up, computing nothing.

    Raises:
        InputError: A target of the recipe is not installed, or what it names can't be read.
    """
    surroundings = here()
    check_targets(recipe, surroundings)
    steps: list[PlannedStep] = []

    def look_up(
        call: Call,
        inputs: dict[str, tuple[PlannedStep, str]],
        after: Sequence[PlannedStep] = (),
    ) -> PlannedStep:
        digests: dict[str, str] = {}
        for name, (source, output) in inputs.items():
            if source.done is not None:
                digests[name] = source.done.outputs[output].sha256
        done = None
        if len(digests) == len(inputs):
            key = cache_key(call, digests, session.user_code)
            done = find_record(session.store, call, key)
        step = PlannedStep(call, done)
        steps.append(step)
        return step

    fixed = pinned(recipe, session)
    layout = lay_out(fixed, surroundings, look_up)
    able = [candidate for candidate in layout.candidates if candidate.compiled is not None]
    if able:
        lay_out_benchmark(fixed, surroundings, look_up, layout.shared, able)
    return Plan(fixed, steps, layout)


def needs(recipe: Recipe, call: Call) -> str:
    """What a step reserves, in words."""
    if call.starts_workers:
        mesh, each = recipe.train.mesh, recipe.train.resources
        gpus = f", {each.gpus:g} GPU" if each.gpus else ""
        return f"{mesh.describe()} workers with {each.cpus:g} CPU{gpus} each"
    return "all cores, alone" if call.step.holds_the_machine else f"{call.cpus:g} CPU"


class MemoryPlan(Strict):
    """What training would hold, and whether the machine has it.

    Attributes:
        workers: How many train.
        parameters: Of the whole model (a count).
        weights: Of each worker, as the rest (bytes).
        gradients: Of its shards.
        optimizer: State of its shards, an average of the weights included.
        activations: Kept for the backward pass; None where they were not counted.
        total: Of one worker.
        needed: Of all workers.
        available: Of the cluster (bytes); None where it was not asked.
        device: Whose memory it is.
    """

    workers: int
    parameters: int
    weights: int
    gradients: int
    optimizer: int
    activations: int | None
    total: int
    needed: int
    available: int | None
    device: str

    @property
    def fits(self) -> bool | None:
        return None if self.available is None else self.needed <= self.available


def plan_memory(
    recipe: Recipe, plan: Plan, session: Session, estimate_now: bool
) -> MemoryPlan | None:
    """What each training worker would hold: as the check found it, or counted now.

    Args:
        recipe: The recipe.
        plan: Its plan.
        session: The surroundings.
        estimate_now: Build model and data in this process, if the check has not run.
    """
    checked = plan.layout.check.done
    found = None if checked is None else CheckFacts.model_validate(checked.facts).memory
    if found is None and estimate_now:
        found = _estimate(plan, session)
    if found is None:
        return None
    workers = recipe.train.mesh.workers
    parts = (found.weights, found.gradients, found.optimizer, found.activations or 0)
    total = sum(parts)  # Estimate.total, whose module imports torch
    return MemoryPlan(
        workers=workers,
        **found.model_dump(),
        total=total,
        needed=total * workers,
        available=_available(recipe, session, estimate_now),
        device="GPU" if recipe.train.resources.gpus else "CPU",
    )


def _estimate(plan: Plan, session: Session) -> MemoryFact:
    from ...ray_workers.data.splits import few_samples, split
    from ...ray_workers.model.module import initial
    from ...ray_workers.training.estimate import estimate
    from ...recipe.factories import use_code

    recipe = plan.recipe
    if session.code is not None:
        use_code(session.code)
    data = session.allowed.call(recipe.data.factory, recipe.data.args, "data.factory")
    model = initial(plan.recipe.model, session.allowed)
    splits = split(data, recipe.train.seed)
    found = estimate(model, recipe.train, session.allowed, few_samples(splits))
    return MemoryFact.model_validate(found.model_dump())


def _available(recipe: Recipe, session: Session, ask: bool) -> int | None:
    """Memory that workers can have: of this machine, or of the cluster that is joined."""
    gpus = recipe.train.resources.gpus
    if session.settings.ray_address is None:
        if gpus:
            import torch

            count = torch.cuda.device_count()
            sizes = [torch.cuda.get_device_properties(i).total_memory for i in range(count)]
            return int(sum(sizes))
        return int(psutil.virtual_memory().total)
    if not ask or gpus:  # Ray does not know how much memory its GPUs have
        return None
    import ray

    session.cluster.start()
    try:
        return int(ray.cluster_resources().get("memory", 0))
    finally:
        session.cluster.close()
