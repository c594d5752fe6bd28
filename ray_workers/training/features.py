"""Matching a student's inner layers to a teacher's: hidden states and attention maps.

FitNets (https://arxiv.org/abs/1412.6550): hidden states by squared error, through a trained
projection where their widths differ. TinyBERT (https://arxiv.org/abs/1909.10351): attention maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...recipe.errors import InputError
from ...recipe.passes import FeaturePair
from ..data.calling import call_model
from ..model.layers import require_layers
from .job import Lesson

#: Attribute of the student with its projections during training; they are removed afterwards.
PROJECTIONS = "hone_projections"


class Features:
    """Outputs of both sides' layers in the last forward pass.

    Args:
        lesson: Which layers.
        teacher: The teacher.
    """

    def __init__(self, lesson: Lesson, teacher: nn.Module) -> None:
        self._lesson = lesson
        self._taught: dict[str, Any] = {}
        self._learned: dict[str, Any] = {}
        self._student: nn.Module | None = None
        for pair in (*lesson.hidden, *lesson.attention):
            _layer(teacher, pair.teacher, "teacher").register_forward_hook(
                _keep(self._taught, pair.teacher)
            )

    def project(self, student: nn.Module, teacher: nn.Module, sample: Any) -> None:
        """Give the student a projection for each pair of hidden states of different widths.

        Raises:
            InputError: A layer does not exist, or does not output states of shape (N, ..., C).
        """
        handles = [
            _layer(student, pair.student, "student").register_forward_hook(
                _keep(self._learned, pair.student)
            )
            for pair in (*self._lesson.hidden, *self._lesson.attention)
        ]
        training = student.training
        student.eval()
        with torch.no_grad():
            call_model(teacher, sample)
            call_model(student, sample)
        student.train(training)
        for handle in handles:
            handle.remove()
        projections = nn.ModuleDict()
        for index, pair in enumerate(self._lesson.hidden):
            mine, theirs = _state(self._learned[pair.student]), _state(self._taught[pair.teacher])
            if mine.ndim != theirs.ndim:
                raise InputError(
                    f"'{pair.student}' gives shape {tuple(mine.shape)}, the teacher's "
                    f"'{pair.teacher}' {tuple(theirs.shape)}",
                    where="distill.hidden",
                )
            axis = _channels(mine)
            if mine.shape[axis] != theirs.shape[axis]:
                projections[str(index)] = nn.Linear(
                    mine.shape[axis], theirs.shape[axis], bias=False
                )
        if projections:
            setattr(student, PROJECTIONS, projections)

    def watch(self, student: nn.Module) -> None:
        """Hook into the student while it trains."""
        self._student = student
        for pair in (*self._lesson.hidden, *self._lesson.attention):
            _layer(student, pair.student, "student").register_forward_hook(
                _keep(self._learned, pair.student)
            )

    def loss(self) -> torch.Tensor:
        """The weighted sum of all terms, of the last forward pass of both."""
        terms: list[torch.Tensor] = []
        for index, pair in enumerate(self._lesson.hidden):
            mine, theirs = _state(self._learned[pair.student]), _state(self._taught[pair.teacher])
            axis = _channels(mine)
            mine, theirs = mine.movedim(axis, -1), theirs.movedim(axis, -1)
            projections = getattr(self._student, PROJECTIONS, {})
            if str(index) in projections:
                mine = projections[str(index)](mine)
            terms.append(pair.weight * F.mse_loss(mine, theirs))
        terms += [pair.weight * self._map_distance(pair) for pair in self._lesson.attention]
        return torch.stack(terms).sum()

    def _map_distance(self, pair: FeaturePair) -> torch.Tensor:
        mine, theirs = _map(self._learned[pair.student]), _map(self._taught[pair.teacher])
        if mine.shape[1] != theirs.shape[1]:
            mine, theirs = mine.mean(1), theirs.mean(1)
        return F.mse_loss(mine, theirs)


def _layer(model: nn.Module, name: str, whose: str) -> nn.Module:
    known = dict(model.named_modules())
    require_layers([name], known, "distill", whose, InputError)
    return known[name]


def _keep(found: dict[str, Any], name: str) -> Callable[[Any, Any, Any], None]:
    def hook(_module: Any, _inputs: Any, outputs: Any) -> None:
        found[name] = outputs

    return hook


def _state(outputs: Any) -> torch.Tensor:
    found = outputs[0] if isinstance(outputs, tuple | list) else outputs
    assert isinstance(found, torch.Tensor)  # noqa: S101 (narrows a type)
    return found


def _map(outputs: Any) -> torch.Tensor:
    last = outputs[-1] if isinstance(outputs, tuple | list) else None
    if not isinstance(last, torch.Tensor) or last.ndim != 4:
        raise InputError(
            "the attention module gives no map of shape (N, heads, T, T) as its last output",
            where="distill.attention",
            do="let the model put out attentions (transformers: attn_implementation='eager')",
        )
    return last


def _channels(state: torch.Tensor) -> int:
    """Channels are axis 1 of images (N, C, H, W), else the last."""
    return 1 if state.ndim == 4 else -1
