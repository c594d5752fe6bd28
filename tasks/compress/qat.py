"""Quantization-aware training: the weights get used to the rounding of int8."""

from __future__ import annotations

from ...ray_workers.training.job import Lesson
from ...ray_workers.workspace import Result, Workspace
from ...recipe.passes import QuantizationAware
from ...recipe.strict import short_name
from ..specs.compress import ModulePassSpec
from .account import account, changed
from .training_pass import Bench, train_on


def apply(work: Workspace[ModulePassSpec]) -> Result:
    """Input and output: `module`.

    Raises:
        StepFailed: The model can't be exported.
    """
    spec = work.spec.compression
    assert isinstance(spec, QuantizationAware)
    bench = Bench.of(work)
    before = account(bench.model, bench.sample, bench.samples)
    lesson = Lesson() if spec.teacher else None
    model, quality = train_on(
        bench, bench.model, bench.operations, "qat", spec.epochs, spec.lr_scale, lesson, qat=True
    )
    bench.keep(model, bench.operations)
    result = changed("qat", before, account(model, bench.sample, bench.samples))
    result.metrics[f"qat/validation_{short_name(work.spec.metric)}"] = quality
    return result
