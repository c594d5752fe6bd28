"""The memory that training would need, as the check found it or as estimated now."""

from __future__ import annotations

import psutil

from ...recipe.schema import Recipe
from ...recipe.strict import Strict
from ...tasks.specs.check import CheckFacts, MemoryFact
from .plan import Plan
from .session import Session


class MemoryPlan(Strict):
    """The memory that training would need, and whether the machine has it.

    Attributes:
        workers: Number of training workers.
        parameters: Of the whole model (a count).
        weights: Of each worker, like the following (bytes).
        gradients: Of its shards.
        optimizer: State of its shards, including an average of the weights.
        activations: Saved for the backward pass; None if they were not measured.
        total: Of one worker.
        needed: Of all workers.
        available: Of the cluster (bytes); None if it was not queried.
        device: The device whose memory it is.
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
    """The memory of each training worker: as the check found it, or estimated now.

    Args:
        recipe: The recipe.
        plan: Its plan.
        session: The surroundings.
        estimate_now: Build model and data in this process, if the check has not run.
    """
    checked = plan.layout.check.done
    found = None if checked is None else checked.facts_as(CheckFacts).memory
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

    recipe = session.with_credentials(plan.recipe)
    if session.code is not None:
        use_code(session.code)
    data = session.allowed.call(recipe.data.factory, recipe.data.args, "data.factory")
    model = initial(recipe.model, session.allowed)
    splits = split(data, recipe.train.seed)
    found = estimate(model, recipe.train, session.allowed, few_samples(splits))
    return MemoryFact.model_validate(found.model_dump())


def _available(recipe: Recipe, session: Session, ask: bool) -> int | None:
    """Memory available to workers: of this machine, or of the joined cluster."""
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
    try:
        return session.cluster.memory()
    finally:
        session.cluster.close()
