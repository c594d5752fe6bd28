"""The norm of a gradient in one process, as torch computes it."""

from __future__ import annotations

import pytest
import torch
from prefect_hone.ray_workers.training.gradients import clip, gradient_norm
from prefect_hone.ray_workers.training.parallel.axes import Axes
from torch import nn


def with_gradients() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2))
    for parameter in model[2].parameters():
        parameter.requires_grad_(False)  # has none
    model(torch.ones(5, 3)).square().sum().backward()
    return model


def test_it_is_torchs_norm() -> None:
    model, same = with_gradients(), with_gradients()
    expected = torch.nn.utils.clip_grad_norm_(same.parameters(), 0.5)
    assert float(clip([model], Axes.alone(), 0.5)) == pytest.approx(float(expected))
    for mine, theirs in zip(model.parameters(), same.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.allclose(mine.grad, theirs.grad)


def test_a_small_gradient_and_no_limit_leave_it_alone() -> None:
    model, same = with_gradients(), with_gradients()
    clip([model], Axes.alone(), None)
    clip([model], Axes.alone(), 1e6)
    assert torch.equal(model[0].weight.grad, same[0].weight.grad)


def test_tied_weights_count_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    model[0].weight.grad = torch.ones(3, 3)
    parts = [model[0], model[1]]
    assert float(gradient_norm(parts, Axes.alone())) == pytest.approx(3.0)
    clip(parts, Axes.alone(), 1.5)
    assert torch.allclose(model[0].weight.grad, torch.full((3, 3), 0.5))
