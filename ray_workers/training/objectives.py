"""What a step minimizes: a function of outputs, inputs and target, so that passes need no loop.

An objective gets a whole micro-batch: the model's main output, its inputs and the target; it
returns a scalar, the mean over the samples. Under a pipeline it runs on the last stage.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from ...recipe.errors import InputError
from ...recipe.factories import Allowed
from ...recipe.objectives import Distill, Supervised
from ...recipe.training import Train
from ..splits import call
from .losses import Loss, make_loss

Objective = Callable[[torch.Tensor, Any, torch.Tensor], torch.Tensor]


def make_objective(spec: Train, allowed: Allowed, device: torch.device) -> Objective:
    """The recipe's objective.

    Raises:
        InputError: The loss or the teacher can't be had, or, on a call, does not fit the model.
    """
    loss = make_loss(spec.loss, allowed, spec.label_smoothing)
    match spec.objective:
        case Supervised():
            return supervised(loss)
        case Distill() as distill:
            teacher = load_teacher(distill, allowed).to(device)
            classes = spec.loss == "cross_entropy"
            return distillation(loss, teacher, distill.temperature, distill.weight, classes)


def supervised(loss: Loss) -> Objective:
    """The loss alone."""
    return lambda outputs, _inputs, target: loss(outputs, target)


def distillation(
    loss: Loss, teacher: nn.Module, temperature: float, weight: float, classes: bool
) -> Objective:
    """The loss, and how far the outputs are from a frozen teacher's.

    Hinton et al., https://arxiv.org/abs/1503.02531.

    Args:
        loss: Of outputs and target.
        teacher: Called with the same inputs; its outputs have the shape of the model's.
        temperature: Softens both sides.
        weight: Share of the teacher.
        classes: Whether outputs are logits; else they are compared by their squared difference.
    """
    teacher.eval().requires_grad_(False)

    def objective(outputs: torch.Tensor, inputs: Any, target: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            soft = call(teacher, inputs)
        if soft.shape != outputs.shape:
            raise InputError(
                f"the teacher's outputs have shape {tuple(soft.shape)}, the model's "
                f"{tuple(outputs.shape)}",
                where="train.objective",
                do="take a teacher that was trained for the same task and the same classes",
            )
        return weight * _distance(outputs, soft, temperature, classes) + (1 - weight) * loss(
            outputs, target
        )

    return objective


def _distance(
    outputs: torch.Tensor, soft: torch.Tensor, temperature: float, classes: bool
) -> torch.Tensor:
    if not classes:
        return F.mse_loss(outputs, soft)
    # Classes are the last axis of (N, C) and (N, T, C), and axis 1 of images (N, C, H, W).
    axis = 1 if outputs.ndim == 4 else -1
    student = F.log_softmax(outputs / temperature, dim=axis).movedim(axis, -1)
    expected = F.log_softmax(soft / temperature, dim=axis).movedim(axis, -1)
    width = student.shape[-1]
    divergence = F.kl_div(
        student.reshape(-1, width),
        expected.reshape(-1, width),
        log_target=True,
        reduction="batchmean",
    )
    return divergence * temperature**2


def load_teacher(spec: Distill, allowed: Allowed) -> nn.Module:
    """The teacher with its weights.

    Raises:
        InputError: The factory makes no module, or the weights are not those of the teacher.
    """
    where = "train.objective"
    teacher = allowed.call(spec.factory, spec.args, f"{where}.factory")
    if not isinstance(teacher, nn.Module):
        raise InputError(
            f"the factory returned a {type(teacher).__name__}, expected a torch.nn.Module",
            where=f"{where}.factory",
        )
    if spec.weights is None:
        return teacher
    try:
        with tempfile.TemporaryDirectory(prefix="hone-teacher-") as folder:
            local = Path(folder) / "teacher.safetensors"
            fs, path = fsspec.core.url_to_fs(spec.weights)
            fs.get_file(path, str(local))
            teacher.load_state_dict(load_file(local))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the teacher's weights can't be loaded: {str(error).splitlines()[0]}",
            where=f"{where}.weights: {spec.weights}",
            do="are they a safetensors file of this very model?",
        ) from error
    return teacher
