"""Optimizers by name, what of a model decays, and how the learning rate moves."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from prefect_hone.ray_workers.training.optim import make_optimizers, parameter_groups, rate_factor
from prefect_hone.recipe.factories import Allowed
from prefect_hone.recipe.optimizers import Imported, Optimizer, Sgd
from prefect_hone.recipe.training import Schedule, Train
from pydantic import TypeAdapter
from torch import nn

CLASSES = [cls for cls in get_args(get_args(Optimizer)[0]) if cls is not Imported]


def test_schedules() -> None:
    constant = [rate_factor(Schedule(name="constant", warmup=0.2), s, 10) for s in range(10)]
    assert constant[0] < constant[1] < constant[2] == constant[-1] == 1
    for name in ("cosine", "linear"):
        rates = [rate_factor(Schedule(name=name, final=0.1), s, 11) for s in range(11)]
        assert rates[0] == 1
        assert rates[5] == pytest.approx(0.55)
        assert rates[-1] == pytest.approx(0.1)
        assert rates == sorted(rates, reverse=True)


def test_optimizers_are_torchs() -> None:
    train = Train.model_validate(
        {"epochs": 1, "batch_size": 1, "optimizer": {"name": "sgd", "lr": 0.5, "nesterov": True}}
    )
    (optimizer,) = make_optimizers(train.optimizer, [torch.nn.Linear(2, 2)], Allowed())
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["nesterov"]
    assert optimizer.defaults["momentum"] == 0.9


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    decayed, rest = parameter_groups([model], 0.1, decay_all=False)
    assert [p.ndim for p in decayed["params"]] == [2]
    assert {p.ndim for p in rest["params"]} == {1}
    assert rest["weight_decay"] == 0.0
    assert len(parameter_groups([model], 0.1, decay_all=True)) == 1


def test_muon_takes_the_hidden_matrices_only() -> None:
    from prefect_hone.recipe.examples.charlm.charlm_model import charlm

    model = charlm(channels=16, layers=1)
    spec = TypeAdapter(Optimizer).validate_python({"name": "muon"})
    muon, rest = make_optimizers(spec, [model], Allowed())
    matrices = {id(p) for g in muon.param_groups for p in g["params"]}
    assert id(model.blocks[0].mlp.up.weight) in matrices
    assert id(model.embedding.characters.weight) not in matrices
    assert id(model.head.logits.weight) not in matrices
    assert type(muon) is torch.optim.Muon
    assert type(rest) is torch.optim.AdamW


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
