"""What was changed in a model, in plain data, and the same change made again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from prefect_hone.ray_workers.model.module import build
from prefect_hone.ray_workers.model.surgery import (
    Reshape,
    factorize,
    operations_of,
    reshape,
    reshaped,
    shapes,
)
from prefect_hone.ray_workers.store.file_names import SURGERY
from prefect_hone.recipe.errors import HoneError, InputError, StoreError
from prefect_hone.recipe.factories import BUNDLED, Allowed
from prefect_hone.recipe.model import Factory
from torch import nn


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))


def narrow(model: nn.Sequential) -> None:
    """As pruning does: the first four units are left."""
    first, norm, last = model
    first.weight = nn.Parameter(first.weight[:4].detach().clone())
    first.bias = nn.Parameter(first.bias[:4].detach().clone())
    first.out_features = 4
    norm.weight = nn.Parameter(norm.weight[:4].detach().clone())
    norm.bias = nn.Parameter(norm.bias[:4].detach().clone())
    norm.normalized_shape = (4,)
    last.weight = nn.Parameter(last.weight[:, :4].detach().clone())
    last.in_features = 4


def test_shapes_are_made_again_from_plain_data() -> None:
    pruned, fresh = net(), net()
    before = shapes(pruned)
    narrow(pruned)
    operation = Reshape.model_validate_json(reshaped(before, pruned).model_dump_json())
    assert set(operation.layers) == {"0", "1", "2"}
    reshape(fresh, operation.layers)
    fresh.load_state_dict(pruned.state_dict())
    x = torch.randn(3, 4)
    assert torch.equal(fresh(x), pruned(x))
    assert fresh[0].out_features == 4
    assert fresh[1].normalized_shape == (4,)


def test_what_did_not_change_is_not_named() -> None:
    model = net()
    assert reshaped(shapes(model), model) == Reshape(layers={})


def test_a_frozen_weight_stays_frozen() -> None:
    model, fresh = net(), net()
    before = shapes(model)
    narrow(model)
    fresh[0].weight.requires_grad_(False)
    reshape(fresh, reshaped(before, model).layers)
    assert not fresh[0].weight.requires_grad
    assert fresh[2].weight.requires_grad


def test_another_factory_is_refused_by_the_layer_that_it_lacks() -> None:
    model = net()
    before = shapes(model)
    narrow(model)
    with pytest.raises(InputError, match="has a layer '1'"):
        reshape(nn.Sequential(nn.Linear(4, 6)), reshaped(before, model).layers)


@pytest.mark.parametrize(
    ("layer", "x"),
    [(nn.Linear(8, 6), torch.randn(3, 8)),
     (nn.Conv2d(4, 6, 3, stride=2, padding=1), torch.randn(2, 4, 8, 8))],
    ids=["linear", "convolution"],
)  # fmt: skip
def test_the_full_rank_changes_nothing_and_a_lower_one_little(
    layer: nn.Module, x: torch.Tensor
) -> None:
    def error(rank: int) -> float:
        model = nn.Sequential(layer)
        expected = model(x)
        factorize(model, "0", rank)
        assert isinstance(model[0], nn.Sequential)
        return float((model(x) - expected).abs().max())

    assert error(6) < 1e-5
    assert error(5) <= error(1) + 1e-6


def test_layers_of_other_kinds_are_not_factorized() -> None:
    with pytest.raises(InputError, match="'1' is a LayerNorm"):
        factorize(net(), "1", 2)


def test_without_a_file_nothing_was_done(tmp_path: Path) -> None:
    assert operations_of(tmp_path) == []


RESHAPE = '[{"op": "reshape", "layers": {"%s": {"attributes": %s, "shapes": %s}}}]'
DIGITS = Factory(factory=f"{BUNDLED}.digits.digits_model:small_resnet", args={"width": 4})


@pytest.mark.parametrize(
    "text",
    [
        RESHAPE % ("nowhere", "{}", "{}"),
        RESHAPE % ("", "{}", '{"weight": [3]}'),
        RESHAPE % ("", "{}", '{"__class__": [3]}'),
        RESHAPE % ("LAYER", '{"in_features": -1}', "{}"),
        RESHAPE % ("LAYER", '{"forward": 3}', '{"nothing": [1]}'),
        RESHAPE % ("LAYER", "{}", '{"weight": [-1, 2]}'),
        RESHAPE % ("LAYER", "{}", '{"weight": [1000000000000]}'),
        '[{"op": "low-rank", "ranks": {"nowhere": 1}}]',
        '[{"op": "low-rank", "ranks": {"": 1}}]',
        '[{"op": "low-rank", "ranks": {"LAYER": 0}}]',
        '[{"op": "low-rank", "ranks": {"LAYER": 100000000}}]',
        '[{"op": "student", "factory": "os:system", "args": {"command": "true"}}]',
        '[{"op": "student", "factory": "nowhere", "args": {}}]',
        "[" * 100_000,
        '[{"op": "student", "factory": "a:b", "args": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}]",
        '[{"op": "student"}]',
        "null",
        "\x00",
    ],
)
def test_a_tampered_file_ends_in_a_sentence(tmp_path: Path, text: str) -> None:
    layer = next(n for n, m in build(DIGITS, Allowed()).named_modules() if hasattr(m, "weight"))
    (tmp_path / SURGERY).write_text(text.replace("LAYER", layer))
    with pytest.raises(HoneError):
        build(DIGITS, Allowed(), operations_of(tmp_path))


@pytest.mark.parametrize("text", ["{", "{}", '[{"op": "exec"}]', '["reshape"]'])
def test_a_file_that_is_no_list_of_operations_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / SURGERY).write_text(text)
    with pytest.raises(StoreError, match="can't be read"):
        operations_of(tmp_path)
