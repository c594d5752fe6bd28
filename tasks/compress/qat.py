"""Quantization-aware training: the weights adapt to the rounding of int8."""

from __future__ import annotations

from ...ray_workers.training.job import Lesson
from ...ray_workers.workspace import Result, Workspace
from ...recipe.passes import QuantizationAware
from ...recipe.strict import short_name
from ..specs.compress import ModulePassSpec
from .account import account, changed
from .training_pass import PassContext, Retraining, replicated, train_on


def apply(work: Workspace[ModulePassSpec]) -> Result:
    """Input and output: `module`.

    Raises:
        StepFailed: The model can't be exported.
    """
    spec = work.spec.compression
    assert isinstance(spec, QuantizationAware)  # noqa: S101 (narrows a type)
    context = PassContext.load(work)
    before = account(context.model, context.samples)
    lesson = Lesson() if spec.teacher else None
    how = Retraining("qat", spec.epochs, spec.lr_scale, lesson, qat=True)
    model, quality = train_on(context, context.model, context.operations, how)
    context.keep(model, context.operations)
    result = changed("qat", before, account(model, context.samples))
    if replicated(work.spec.train) is not work.spec.train:
        result.notes.append(
            "qat: each worker had the whole model (mesh.data), because an exported graph can't be "
            "split over workers"
        )
    result.metrics[f"qat/validation_{short_name(work.spec.metric)}"] = quality
    return result
