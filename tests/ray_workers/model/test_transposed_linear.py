"""transformers' `Conv1D` becomes a linear layer that computes the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.model.transposed_linear import make_linear, transposed_layers
from prefect_hone.recipe.errors import InputError
from torch import nn


def made() -> Any:
    pytorch_utils = pytest.importorskip("transformers.pytorch_utils")
    model = nn.Module()
    model.block = nn.Module()
    model.block.first, model.second = pytorch_utils.Conv1D(6, 4), nn.Linear(6, 4)
    model.again = model.block.first
    model.block.first.bias.requires_grad_(False)
    return model


def test_it_computes_the_same_wherever_it_is_used() -> None:
    model, x = made(), torch.randn(3, 4)
    with torch.no_grad():
        before = model.block.first(x)
        assert transposed_layers(model) == ("block.first",)
        make_linear(model, ["block.first"])
        assert torch.allclose(model.block.first(x), before, atol=1e-6)
    layer = model.block.first
    assert type(layer) is nn.Linear
    assert (layer.in_features, layer.out_features) == (4, 6)
    assert model.again is layer
    assert (layer.weight.requires_grad, layer.bias.requires_grad) == (True, False)
    assert transposed_layers(model) == ()


@pytest.mark.parametrize("name", ["block.third", "block", ""])
def test_a_layer_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"a linear layer '{name}', and the factory's has none"):
        make_linear(made(), [name])
