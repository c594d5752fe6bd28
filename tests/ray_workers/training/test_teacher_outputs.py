"""A frozen teacher is asked once for each sample, within its memory."""

from __future__ import annotations

import torch
from prefect_hone.ray_workers.training.teacher_outputs import TeacherOutputs
from torch import nn


def test_a_teacher_is_asked_once_for_each_sample() -> None:
    class Teacher(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.rows = 0

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            self.rows += len(x)
            return self.linear(x) * scale

    teacher = Teacher()
    data = {"x": torch.randn(20, 4), "scale": torch.rand(20, 1)}
    outputs = TeacherOutputs(teacher, 2**20)

    def batch(rows: list[int]) -> dict[str, torch.Tensor]:
        return {name: value[rows] for name, value in data.items()}

    for rows in ([0, 1, 2, 3], [3, 2, 4, 0], [4, 4, 1, 19]):
        assert torch.allclose(outputs(batch(rows)), teacher.linear(data["x"][rows])
                              * data["scale"][rows], atol=1e-6)  # fmt: skip
    assert teacher.rows == 6, "samples 0 to 4 and 19"
    assert (outputs.asked, outputs.found) == (12, 6)
    other = {**batch([0]), "scale": torch.ones(1, 1)}
    assert torch.allclose(outputs(other), teacher.linear(data["x"][:1])), "all inputs count"


def test_a_teachers_memory_is_bounded_and_given_up_where_nothing_comes_again() -> None:
    teacher = nn.Linear(4, 3)
    outputs = TeacherOutputs(teacher, 10 * 3 * 4)
    for _ in range(20):
        x = torch.randn(10, 4)
        assert torch.allclose(outputs(x), teacher(x))
    assert outputs.asked == 90, "after 8 times what it holds it asks no more"
    assert not outputs._held
    useful = TeacherOutputs(teacher, 10 * 3 * 4)
    x = torch.randn(12, 4)
    for _ in range(3):
        assert torch.allclose(useful(x), teacher(x), atol=1e-6)
    assert len(useful._held) == 10
