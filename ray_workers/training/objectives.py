"""What a step minimizes: a function of outputs, inputs and target, so passes need no own loop.

An objective gets a whole micro-batch: the model's main output (with `train.loss_outputs: all`
everything that it returned), its inputs and the target; it returns a scalar, the mean over the
samples, or a sum and a count (`Counted`). Under a pipeline it runs on the last stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...recipe.errors import InputError
from ...recipe.factories import Allowed
from ...recipe.model import Factory
from ...recipe.objectives import DistillObjective
from ..data.calling import chosen_output, main_output
from ..data.targets import main_target
from ..metrics.positions import class_axis
from ..model.module import load_module, load_weights, make_module
from .features import Features
from .job import Lesson, TrainJob
from .losses import Counted, CountedLoss, CrossEntropy, make_counted_loss
from .parallel.axes import Axes
from .parallel.parallelize import Placed
from .teacher_outputs import TeacherOutputs

Objective = Callable[[Any, Any, Any], torch.Tensor | Counted]
#: How much each position counts, from outputs and class numbers.
Weigh = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Taught:
    """A loaded teacher.

    Attributes:
        teacher: The frozen module.
        lesson: How it is used.
        features: Inner layers to match, if there are any.
    """

    teacher: nn.Module
    lesson: Lesson
    features: Features | None


def prepare_lesson(job: TrainJob, student: nn.Module, sample: Any) -> Taught | None:
    """Load the teacher, before the student is split over the mesh; None if there is none.

    Raises:
        InputError: The teacher can't be loaded, or its layers don't fit the student's.
    """
    objective = job.train.objective
    if job.lesson is not None and job.teacher is not None:
        teacher = load_module(job.model, job.allowed, job.fetched(job.teacher))
        lesson = job.lesson
    elif isinstance(objective, DistillObjective):
        teacher = load_teacher(objective, job.allowed)
        lesson = Lesson(
            temperature=objective.temperature, weight=objective.weight, cache_mb=objective.cache_mb
        )
    else:
        return None
    teacher.eval().requires_grad_(False)
    features = None
    if lesson.hidden or lesson.attention:
        mesh = job.train.mesh
        if mesh.tensor > 1 or mesh.pipeline > 1 or mesh.context > 1:
            raise InputError(
                "matching hidden states needs whole layers: axes data and shard only",
                where="train.mesh",
                do="remove tensor, pipeline and context, or hidden and attention",
            )
        features = Features(lesson, teacher)
        features.project(student, teacher, sample)
    return Taught(teacher, lesson, features)


def make_objective(job: TrainJob, taught: Taught | None, placed: Placed, axes: Axes) -> Objective:
    """The recipe's objective, or a teacher's.

    Raises:
        InputError: The loss can't be found, or, on a call, does not fit the model.
    """
    spec = job.train
    loss = make_counted_loss(
        spec.loss, job.allowed, spec.label_smoothing, spec.class_weights, job.data.target
    )
    if taught is None:
        return supervised(loss)
    lesson, classes = taught.lesson, spec.loss == "cross_entropy"
    weigh = CrossEntropy(0.0, spec.class_weights or ()).weights if classes else None
    features = taught.features
    if features is not None:
        features.watch(placed.parts[0])
    teacher = taught.teacher.to(axes.device)
    # Inner layers are available only if the teacher runs; on a GPU that is faster than a digest.
    kept = 0 if features is not None or axes.device.type != "cpu" else lesson.cache_mb * 2**20
    outputs = TeacherOutputs(teacher, kept)
    chosen = chosen_output(placed.parts[0]) if spec.loss_gets_all else None
    return distillation(
        loss,
        outputs,
        lesson.temperature,
        lesson.weight,
        classes,
        features,
        weigh,
        chosen,
        job.data.target,
    )


def supervised(loss: CountedLoss) -> Objective:
    """The loss alone."""
    return lambda outputs, _inputs, target: loss(outputs, target)


def distillation(
    loss: CountedLoss,
    teacher: Callable[[Any], torch.Tensor],
    temperature: float,
    weight: float,
    classes: bool,
    features: Features | None = None,
    weigh: Weigh | None = None,
    chosen: str | None = None,
    chosen_target: str | None = None,
) -> Objective:
    """The loss, plus the distance of the main output from a frozen teacher's.

    Hinton et al., https://arxiv.org/abs/1503.02531.

    Args:
        loss: Of outputs and target.
        teacher: Called with the same inputs, without gradients; its main output has the shape of
            the model's.
        temperature: Temperature of both sides' softmax.
        weight: Share of the teacher.
        classes: Whether outputs are logits; else they are compared by their squared difference.
        features: Inner layers that should be alike too.
        weigh: How much each position counts; None: all the same.
        chosen: The main one of several outputs, if the loss gets all.
        chosen_target: The main one of several targets.
    """

    def objective(outputs: Any, inputs: Any, targets: Any) -> torch.Tensor | Counted:
        soft, main = teacher(inputs), main_output(outputs, chosen)
        target = main_target(targets, chosen_target)
        if soft.shape != main.shape:
            raise InputError(
                f"the teacher's outputs have shape {tuple(soft.shape)}, the model's "
                f"{tuple(main.shape)}",
                where="train.objective",
                do="use a teacher that was trained for the same task and the same classes",
            )
        weights = None
        if weigh is not None and not target.is_floating_point():
            weights = weigh(main.movedim(class_axis(main.shape, target.shape), -1), target)
        distance = _distance(main, soft, temperature, classes, target, weights)
        extra = weight * distance
        if features is not None:
            extra = extra + features.loss()
        measured = loss(outputs, targets)
        if isinstance(measured, Counted):
            total = (1 - weight) * measured.total + extra * measured.count
            return Counted(total, measured.count)
        return (1 - weight) * measured + extra

    return objective


def _distance(
    outputs: torch.Tensor,
    soft: torch.Tensor,
    temperature: float,
    classes: bool,
    target: torch.Tensor,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """The mean distance from the teacher's outputs, over what counts."""
    if not classes:
        return F.mse_loss(outputs, soft)
    axis = class_axis(outputs.shape, target.shape)
    student = F.log_softmax(outputs / temperature, dim=axis).movedim(axis, -1)
    expected = F.log_softmax(soft / temperature, dim=axis).movedim(axis, -1)
    width = student.shape[-1]
    each = F.kl_div(
        student.reshape(-1, width), expected.reshape(-1, width), log_target=True, reduction="none"
    ).sum(1)
    divergence = each.mean() if weights is None else Counted(
        (each * weights.flatten()).sum(), weights.sum()).mean  # fmt: skip
    return divergence * temperature**2


def load_teacher(spec: DistillObjective, allowed: Allowed) -> nn.Module:
    """The teacher with its weights.

    Raises:
        InputError: The factory returns no module, or the weights are not the teacher's.
    """
    teacher = make_module(
        Factory(factory=spec.factory, args=spec.args), allowed, "train.objective.factory"
    )
    if spec.weights is not None:
        load_weights(teacher, spec.weights, f"train.objective.weights: {spec.weights}")
    return teacher
