"""Distill: the current module teaches a smaller student from another factory."""

from __future__ import annotations

import torch

from ...ray_workers.model.module import build
from ...ray_workers.model.surgery import Student
from ...ray_workers.training.job import Lesson
from ...ray_workers.workspace import Result, Workspace
from ...recipe.passes import DistillPass
from ...recipe.strict import short_name
from ..specs.compress import ModulePassSpec
from .account import account, changed
from .training_pass import PassContext, Retraining, train_on


def apply(work: Workspace[ModulePassSpec]) -> Result:
    """Input and output: `module`.

    Raises:
        InputError: The student can't be built, or its outputs don't match the teacher's.
    """
    spec = work.spec.compression
    assert isinstance(spec, DistillPass)  # noqa: S101 (narrows a type)
    context = PassContext.load(work)
    before = account(context.model, context.samples)
    operation = Student(factory=spec.factory, args=spec.args)
    torch.manual_seed(work.spec.seed)
    student = build(work.spec.model, work.allowed, [operation])
    lesson = Lesson(
        temperature=spec.temperature,
        weight=spec.weight,
        hidden=spec.hidden,
        attention=spec.attention,
        cache_mb=spec.cache_mb,
    )
    how = Retraining("distill", spec.epochs, spec.lr_scale, lesson)
    trained, quality = train_on(context, student, [operation], how)
    context.keep(trained, [operation])
    after = account(trained, context.samples)
    result = changed("distill", before, after)
    result.metrics[f"distill/validation_{short_name(work.spec.metric)}"] = quality
    if after.parameters >= before.parameters:
        result.notes.append(
            f"the student has {after.parameters:,} parameters, no fewer than its teacher's "
            f"{before.parameters:,}"
        )
    return result
