"""Optimizers by name, what of a model decays, and how the learning rate moves."""

from __future__ import annotations

import pytest
import torch
from prefect_hone.ray_workers.training.optim import make_optimizers, parameter_groups, rate_factor
from prefect_hone.recipe.factories import Allowed
from prefect_hone.recipe.optimizers import Optimizer
from prefect_hone.recipe.training import Schedule, Train
from pydantic import TypeAdapter
from torch import nn


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
