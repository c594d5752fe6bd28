"""The average of the weights: how it moves, and that it only stands in for them."""

from __future__ import annotations

import contextlib

import pytest
import torch
from prefect_hone.ray_workers.training.ema import Ema
from torch import nn


def model_with(value: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    fill(model, value)
    return model


def fill(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_it_starts_as_the_weights_and_follows_them_slowly() -> None:
    model = model_with(1.0)
    ema = Ema([model], 0.9)
    fill(model, 2.0)
    ema.update(1000)
    assert ema.values["0.weight"].unique().item() == pytest.approx(1.1)


def test_it_follows_faster_at_first() -> None:
    model = model_with(0.0)
    ema = Ema([model], 0.999)
    fill(model, 1.0)
    ema.update(0)
    assert ema.values["0.weight"].unique().item() == pytest.approx(0.9), "a tenth is old"


def test_counts_are_not_averaged_and_running_statistics_are() -> None:
    names = set(Ema([model_with(1.0)], 0.9).values)
    assert "1.running_mean" in names
    assert "1.num_batches_tracked" not in names


def test_the_weights_come_back_whatever_happens() -> None:
    model = model_with(1.0)
    ema = Ema([model], 0.5)
    fill(model, 3.0)
    ema.update(1000)

    weight = model[0].weight
    with contextlib.suppress(ValueError), ema.in_place():
        assert weight.unique().item() == 2.0
        raise ValueError
    assert weight.unique().item() == 3.0
