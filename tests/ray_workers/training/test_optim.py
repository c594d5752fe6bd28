"""What the recipe says of each optimizer is what the optimizer does."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from prefect_hone.ray_workers.training.optim import make_optimizers
from prefect_hone.recipe.factories import Allowed
from prefect_hone.recipe.optimizers import Imported, Optimizer, Sgd
from torch import nn

CLASSES = [cls for cls in get_args(get_args(Optimizer)[0]) if cls is not Imported]


@pytest.mark.parametrize(
    ("cls", "fields"),
    [*((cls, {}) for cls in CLASSES), (Sgd, {"momentum": 0.0})],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value or ""),
)
def test_it_keeps_as_many_values_as_the_estimate_of_memory_says(
    cls: Any, fields: dict[str, float]
) -> None:
    if cls.__name__ in ("Lamb", "Lars"):
        pytest.importorskip("pytorch_optimizer")
    spec = cls(name=get_args(cls.model_fields["name"].annotation)[0], **fields)
    layer = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 4, bias=False))
    weight = layer[0].weight
    (kept,) = [
        optimizer.state[weight]
        for optimizer in make_optimizers(spec, [layer], Allowed())
        if _step(optimizer, layer) and weight in optimizer.state
    ] or [{}]
    values = sum(v.numel() for v in kept.values() if isinstance(v, torch.Tensor))
    assert values // weight.numel() == spec.states


def _step(optimizer: torch.optim.Optimizer, layer: nn.Module) -> bool:
    layer(torch.ones(2, 64)).square().sum().backward()
    optimizer.step()
    return True


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_slower_scales_every_rate(cls: Any) -> None:
    spec = cls(name=get_args(cls.model_fields["name"].annotation)[0])
    slower = spec.slower(0.5)
    rates = [name for name in cls.model_fields if name == "lr" or name.endswith("_lr")]
    assert all(getattr(slower, name) == getattr(spec, name) / 2 for name in rates)
    assert slower.model_copy(update={n: getattr(spec, n) for n in rates}) == spec
