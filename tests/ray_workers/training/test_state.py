"""What travels together: a state saved by one training and taken up by another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.ray_workers.training.ema import Ema
from prefect_hone.ray_workers.training.parallel.parallelize import Placed
from prefect_hone.ray_workers.training.state import TrainState
from prefect_hone.recipe.errors import InputError
from torch import nn


def make(width: int = 2, average: bool = True) -> TrainState:
    model = nn.Linear(3, width)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    ema = Ema([model], 0.5) if average else None
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    return TrainState(Placed([model], model), [optimizer], ema, scaler)


def step(state: TrainState) -> None:
    (optimizer,) = state.optimizers
    optimizer.zero_grad()
    state.placed.callable(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    if state.ema is not None:
        state.ema.update(0)


def test_it_is_taken_up_whole(tmp_path: Path) -> None:
    first, second = make(), make()
    step(first)
    checkpoints = Checkpoints(str(tmp_path), higher_is_better=True)
    checkpoints.save(first.tensors(), 1, 1, 0.5, first.values())
    found = checkpoints.latest()
    assert found is not None
    second.load(checkpoints, found)
    assert set(first.tensors()) == set(second.tensors())
    for name, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name
    assert second.values() == first.values()
    step(first)
    step(second)
    assert torch.equal(first.placed.parts[0].weight, second.placed.parts[0].weight)


def test_names_tell_what_each_tensor_is() -> None:
    state = make()
    step(state)
    kinds = {name.split("/")[0] for name in state.tensors()}
    assert kinds == {"model", "ema", "optimizer"}
    assert {name.split("/")[0] for name in make(average=False).tensors()} == {"model"}


def test_another_models_state_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path), higher_is_better=True)
    state = make()
    checkpoints.save(state.tensors(), 1, 1, 0.5, state.values())
    found = checkpoints.latest()
    assert found is not None
    with pytest.raises(InputError, match="belongs to another model"):
        make(width=5).load(checkpoints, found)
