"""A module as an artifact: weights, surgery, and the factory that they belong to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from prefect_hone.ray_workers.model.flops import forward_flops
from prefect_hone.ray_workers.model.layers import require_layers
from prefect_hone.ray_workers.model.module import (
    build,
    initial,
    load_module,
    load_weights,
    refuse_lazy,
    save_module,
)
from prefect_hone.ray_workers.model.surgery import Factorize, Student, factorize, operations_of
from prefect_hone.ray_workers.model.ties import load_tensors, save_tensors, take_from
from prefect_hone.ray_workers.store.file_names import SURGERY, WEIGHTS
from prefect_hone.recipe.errors import InputError, StepFailed
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.recipe.model import Factory, ModelFactory
from safetensors.torch import load_file, save_file
from torch import nn

CODE = """
import functools
import torch
from torch import nn

def net(width=6):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

def tied():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    return model

def words():
    return "not a module"

ONE = net()
MANY = {"net": net()}

def one():
    return ONE

def of_many():
    return MANY["net"]

@functools.cache
def cached():
    return net()

@functools.lru_cache(maxsize=4)
def cached_by_width(width=6):
    return net(width)

class Hidden:
    def __init__(self):
        self.model = net()

HIDDEN = Hidden()

def hidden():
    return HIDDEN.model

def wrapped(by):
    return {"compiled": torch.compile, "parallel": nn.DataParallel,
            "both": lambda net: torch.compile(nn.DataParallel(net))}[by](net())

def scripted(inside=False):
    model = torch.jit.script(net())
    return nn.Sequential(model) if inside else model

def lazy():
    return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 2))
"""
NET = ModelFactory(factory="module_code:net")
X = torch.ones(3, 4)


@pytest.fixture
def allowed(tmp_path: Path) -> Allowed:
    code = tmp_path / "code"
    code.mkdir()
    (code / "module_code.py").write_text(CODE)
    use_code(code)
    return Allowed.from_environment(code)


def test_weights_come_back_into_what_the_factory_makes(allowed: Allowed, tmp_path: Path) -> None:
    model = build(NET, allowed)
    save_module(model, [], tmp_path)
    assert not (tmp_path / SURGERY).exists()
    loaded = load_module(NET, allowed, tmp_path)
    assert not loaded.training
    assert torch.equal(loaded(X), model(X))


def test_what_was_changed_is_changed_again(allowed: Allowed, tmp_path: Path) -> None:
    student = Student(factory="module_code:net", args={"width": 8})
    model = build(NET, allowed, [student])
    factorize(model, "0", 2)
    operations = [student, Factorize(ranks={"0": 2})]
    save_module(model, operations, tmp_path)
    assert operations_of(tmp_path) == operations
    assert torch.equal(load_module(NET, allowed, tmp_path)(X), model(X))


def test_tied_weights_stay_tied(allowed: Allowed, tmp_path: Path) -> None:
    tied = ModelFactory(factory="module_code:tied")
    save_module(build(tied, allowed), [], tmp_path)
    assert len(load_file(tmp_path / WEIGHTS)) == 1
    loaded = load_module(tied, allowed, tmp_path)
    assert loaded[0].weight is loaded[1].weight


def test_weights_of_another_model_are_refused(allowed: Allowed, tmp_path: Path) -> None:
    save_module(nn.Linear(2, 2), [], tmp_path)
    with pytest.raises(InputError, match="the trained weights don't fit the model"):
        load_module(NET, allowed, tmp_path)
    with pytest.raises(InputError, match="the weights can't be loaded") as caught:
        load_weights(build(NET, allowed), str(tmp_path / WEIGHTS), "model.weights: mine")
    assert caught.value.where == "model.weights: mine"
    with pytest.raises(InputError, match="no such file"):
        load_weights(build(NET, allowed), str(tmp_path / "none.safetensors"), "model.weights")


def test_a_model_starts_with_the_weights_that_the_recipe_names(
    allowed: Allowed, tmp_path: Path
) -> None:
    model = build(NET, allowed)
    save_module(model, [], tmp_path)
    named = NET.model_copy(update={"weights": str(tmp_path / WEIGHTS)})
    assert torch.equal(initial(named, allowed)(X), model(X))
    assert not torch.equal(initial(NET, allowed)(X), model(X))


def test_a_factory_that_makes_no_module_is_refused(allowed: Allowed) -> None:
    with pytest.raises(InputError, match=r"returned a str, expected a torch\.nn\.Module"):
        build(Factory(factory="module_code:words"), allowed)


def test_operations_are_counted_without_a_trace() -> None:
    model = nn.Linear(4, 2, bias=False).train()
    assert forward_flops(model, X) == 2 * 3 * 4 * 2
    assert model.training
    assert model.weight.grad is None


def test_a_layer_that_is_not_there_is_named_with_the_one_that_was_meant() -> None:
    known = ["first", "second"]
    require_layers(["first"], known, "prune.skip_layers")
    with pytest.raises(StepFailed, match="the model has no layer 'secnod': did you mean 'second'"):
        require_layers(["first", "secnod"], known, "prune.skip_layers")
    with pytest.raises(InputError, match="the teacher has no layer"):
        require_layers(["x"], known, "distill", "teacher", InputError)


def test_a_file_may_have_a_tied_weight_under_any_of_its_names(
    allowed: Allowed, tmp_path: Path
) -> None:
    tied = ModelFactory(factory="module_code:tied")
    one, other = torch.rand(3, 3), torch.rand(3, 3)
    for state in (
        {"0.weight": one}, {"1.weight": one}, {"0.weight": one, "1.weight": one.clone()},
    ):  # fmt: skip
        save_file(state, str(tmp_path / WEIGHTS))
        loaded = load_module(tied, allowed, tmp_path)
        assert torch.equal(loaded[0].weight, one)
        assert loaded[0].weight is loaded[1].weight
    save_file({"0.weight": one, "1.weight": other}, str(tmp_path / WEIGHTS))
    with pytest.raises(InputError, match=r"ties '0\.weight' and '1\.weight', and"):
        load_module(tied, allowed, tmp_path)


@pytest.mark.parametrize("name", ["one", "of_many", "cached", "cached_by_width"])
def test_each_step_gets_a_model_of_its_own_though_the_factory_keeps_one(
    allowed: Allowed, name: str
) -> None:
    factory = ModelFactory(factory=f"module_code:{name}")
    first = build(factory, allowed)
    expected = first(X)
    with torch.no_grad():
        first[0].weight.zero_()
    factorize(first, "2", 1)
    second = build(factory, allowed)
    assert second is not first
    assert torch.equal(second(X), expected)


def test_the_same_model_at_each_call_is_refused_where_it_can_not_be_seen(allowed: Allowed) -> None:
    factory = ModelFactory(factory="module_code:hidden")
    kept = build(factory, allowed)
    with pytest.raises(InputError, match="the same model at each call") as refused:
        build(factory, allowed)
    assert refused.value.where == "model.factory: module_code:hidden"
    assert kept is not None


def test_a_model_in_place_of_a_factory_is_told_as_one(allowed: Allowed) -> None:
    with pytest.raises(InputError, match="this is a model, expected a function that builds one"):
        build(ModelFactory(factory="module_code:ONE"), allowed)


class Versioned(nn.Linear):
    """Reads only a state that says which version of the class wrote it, as torchvision's MNASNet."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, local_metadata, *further) -> None:
        if local_metadata.get("version") not in (1, 2):
            raise ValueError("version should be set to 1 or 2 instead of None")
        super()._load_from_state_dict(state, prefix, local_metadata, *further)


def test_a_class_that_asks_for_the_version_of_a_state_loads(tmp_path: Path) -> None:
    model, other, third = (nn.Sequential(Versioned(3, 2), nn.BatchNorm1d(2)) for _ in range(3))
    save_tensors(model, tmp_path / WEIGHTS)
    load_tensors(other, tmp_path / WEIGHTS)
    take_from(third, {**model.state_dict(), "more": torch.zeros(1)})
    for loaded in (other, third):
        assert torch.equal(loaded[0].weight, model[0].weight)
    # A state of an older torch, which torch's own class completes.
    held = load_file(tmp_path / WEIGHTS)
    save_file({k: v for k, v in held.items() if "batches" not in k}, tmp_path / WEIGHTS)
    load_tensors(other, tmp_path / WEIGHTS)


@pytest.mark.parametrize("by", ["compiled", "parallel", "both"])
def test_a_wrapped_model_is_unwrapped(allowed: Allowed, by: str) -> None:
    model = build(ModelFactory(factory="module_code:wrapped", args={"by": by}), allowed)
    assert type(model) is nn.Sequential
    assert set(model.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize("inside", [False, True])
def test_a_scripted_model_is_refused_where_it_is_built(allowed: Allowed, inside: bool) -> None:
    factory = ModelFactory(factory="module_code:scripted", args={"inside": inside})
    with pytest.raises(InputError, match=r"scripted with torch\.jit") as failed:
        build(factory, allowed)
    assert ("the layer '0'" if inside else "the model is") in str(failed.value)


def test_lazy_layers_can_not_be_given_other_sizes(allowed: Allowed) -> None:
    model = build(ModelFactory(factory="module_code:lazy"), allowed)
    with pytest.raises(InputError, match=r"those of 0 follow from the first batch") as failed:
        refuse_lazy(model, "prune")
    assert failed.value.where == "prune"
    refuse_lazy(model[1:], "prune")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "model."])
def test_weights_that_a_wrapper_saved_are_the_models(
    allowed: Allowed, tmp_path: Path, prefix: str
) -> None:
    model = initial(NET, allowed)
    kept = {f"{prefix}{name}": value + 1 for name, value in model.state_dict().items()}
    save_file(kept, str(tmp_path / "wrapped.safetensors"))
    load_weights(model, str(tmp_path / "wrapped.safetensors"), "model.weights")
    assert torch.equal(model[0].weight, kept[f"{prefix}0.weight"])
    save_file({**kept, f"{prefix}head.weight": X}, str(tmp_path / "more.safetensors"))
    with pytest.raises(InputError, match=re.escape(f"the model has no '{prefix}")):
        load_weights(model, str(tmp_path / "more.safetensors"), "model.weights")
