"""A teacher's pull, and how seldom it is asked."""

from __future__ import annotations

import pytest
import torch
from prefect_hone.ray_workers.training.objectives import distillation
from prefect_hone.ray_workers.training.teacher_outputs import TeacherOutputs
from prefect_hone.recipe.errors import InputError
from torch import nn


def test_distillation_pulls_towards_the_teacher() -> None:
    torch.manual_seed(0)
    teacher, student = nn.Linear(4, 3), nn.Linear(4, 3)
    x, y = torch.randn(256, 4), torch.randint(0, 3, (256,))
    objective = distillation(
        nn.functional.cross_entropy, TeacherOutputs(teacher, 0), 2.0, 1.0, classes=True
    )
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        objective(student(x), x, y).backward()
        optimizer.step()
    far = (student(x).softmax(1) - teacher(x).softmax(1)).abs().max()
    assert far < 0.02
    assert all(p.grad is None for p in teacher.parameters()), "the teacher is frozen"
    other = TeacherOutputs(nn.Linear(4, 5), 2**20)
    wide = distillation(nn.functional.cross_entropy, other, 2.0, 0.5, classes=True)
    with pytest.raises(InputError, match=r"the teacher's outputs have shape \(256, 5\)"):
        wide(student(x), x, y)


def test_the_shares_of_teacher_and_loss_make_one() -> None:
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    student, teacher = nn.Linear(4, 3), TeacherOutputs(nn.Linear(4, 3), 0)

    def value(weight: float) -> float:
        loss = nn.functional.cross_entropy
        return float(distillation(loss, teacher, 2.0, weight, classes=True)(student(x), x, y))

    assert value(0.0) == pytest.approx(float(nn.functional.cross_entropy(student(x), y)))
    assert value(0.25) == pytest.approx(0.75 * value(0.0) + 0.25 * value(1.0), rel=1e-5)


def test_outputs_that_are_no_classes_are_compared_by_their_squares() -> None:
    x = torch.randn(8, 4)
    student, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
    objective = distillation(nn.functional.mse_loss, teacher, 2.0, 1.0, classes=False)
    expected = nn.functional.mse_loss(student(x), teacher(x))
    assert float(objective(student(x), x, torch.zeros(8, 3))) == pytest.approx(float(expected))
