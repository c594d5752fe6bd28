"""An optimizer's state by names, and back into another optimizer."""

from __future__ import annotations

import torch
from prefect_hone.ray_workers.training.optimizer_state import (
    blank_optimizer_state,
    optimizer_state,
)
from torch import nn


def stepped(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
    return optimizer


def test_values_are_known_by_the_parameters_names() -> None:
    model = nn.Linear(3, 2)
    found = optimizer_state([stepped(model)], dict(model.named_parameters()))
    assert set(found) == {
        f"optimizer/{name}/{key}"
        for name in ("weight", "bias")
        for key in ("step", "exp_avg", "exp_avg_sq")
    }
    assert found["optimizer/weight/exp_avg"].shape == (2, 3)
    assert found["optimizer/weight/step"] == 3


def test_an_optimizer_that_did_nothing_has_no_state() -> None:
    model = nn.Linear(3, 2)
    fresh = torch.optim.AdamW(model.parameters())
    assert optimizer_state([fresh], dict(model.named_parameters())) == {}


def test_it_goes_on_as_if_nothing_had_happened() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = stepped(model)
    other = nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    again = torch.optim.AdamW(other.parameters(), lr=0.1)
    kept = optimizer_state([optimizer], dict(model.named_parameters()))
    names = {name: (value.shape, value.dtype) for name, value in kept.items()}
    blank = blank_optimizer_state([again], dict(other.named_parameters()), names)
    assert set(blank) == set(kept)
    assert all(not value.any() for value in blank.values())
    for name, value in kept.items():
        blank[name].copy_(value)  # in place, as a checkpoint is loaded
    for trained, by in ((model, optimizer), (other, again)):
        by.zero_grad()
        trained(torch.ones(4, 3)).square().sum().backward()
        by.step()
    assert torch.equal(model.weight, other.weight)


def test_only_this_workers_parameters_are_taken() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD([model.weight], momentum=0.9)
    names = {
        f"optimizer/{name}/momentum_buffer": (torch.Size(shape), torch.float32)
        for name, shape in (("weight", [2, 3]), ("bias", [2]), ("elsewhere.weight", [5]))
    }
    found = blank_optimizer_state([optimizer], dict(model.named_parameters()), names)
    assert set(found) == {"optimizer/weight/momentum_buffer"}
    assert optimizer.state[model.weight]["momentum_buffer"] is next(iter(found.values()))
