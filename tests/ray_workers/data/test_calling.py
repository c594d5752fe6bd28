"""How a model is called, and which of its outputs counts."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.data.calling import (
    INPUT,
    arrays,
    call_model,
    in_form,
    main_output,
    main_output_name,
    move,
    named_outputs,
    tensors,
)
from prefect_hone.recipe.errors import InputError

X = torch.arange(6.0).reshape(2, 3)


def test_one_tensor_is_an_argument_and_several_are_keywords() -> None:
    assert torch.equal(call_model(lambda x: x * 2, X), X * 2)
    both = {"a": X, "b": X}
    assert torch.equal(call_model(lambda a, b: a + b, both), X * 2)


def test_of_several_outputs_logits_or_the_first_counts() -> None:
    class Output(dict):
        """As transformers returns it."""

    assert main_output(Output(loss=X * 0, logits=X)) is X
    assert main_output({"z": X, "a": X * 0}) is X
    assert main_output(([X, X * 0], 1)) is X
    assert main_output_name(["hidden", "logits"]) == "logits"
    assert main_output_name(["z", "a"]) == "z"


@pytest.mark.parametrize("outputs", ["text", (), {}, None, SimpleNamespace(logits=X)])
def test_what_holds_no_tensor_is_refused(outputs: object) -> None:
    with pytest.raises(InputError, match="None" if outputs is None else type(outputs).__name__):
        main_output(outputs)


def test_arrays_have_names_and_come_back_as_they_were() -> None:
    assert list(arrays(X)) == [INPUT]
    assert torch.equal(tensors(arrays(X)), X)
    named = {"ids": torch.tensor([[1, 2]]), "mask": torch.tensor([[True, False]])}
    back = tensors(arrays(named))
    assert {name: value.dtype for name, value in back.items()} == {
        "ids": torch.int64,
        "mask": torch.bool,
    }
    assert all(torch.equal(back[name], value) for name, value in named.items())
    assert arrays({"x": np.ones(2)})["x"].dtype == np.float64, "what is an array already stays one"


def test_inputs_move_together() -> None:
    device = torch.device("meta")
    assert move(X, device).is_meta
    assert all(value.is_meta for value in move({"a": X, "b": X}, device).values())


@dataclass
class Found:
    boxes: torch.Tensor
    count: int


class Pair(NamedTuple):
    mean: torch.Tensor
    spread: torch.Tensor


@pytest.mark.parametrize(
    "outputs",
    [
        X,
        (X, X * 2),
        [X, [X * 2, {"a": X * 3}]],
        {"a": X, "b": (X * 2, None)},
        Found(X, 3),
        Pair(X, X * 2),
        OrderedDict(a=X, b=Pair(X, X)),
    ],
)
def test_all_outputs_by_name_come_back_in_the_models_form(outputs: Any) -> None:
    doubled = {name: 2 * value for name, value in named_outputs(outputs).items()}
    back = in_form(outputs, doubled)
    assert type(back) is type(outputs)
    again = named_outputs(back)
    assert list(again) == list(doubled)
    assert all(again[name] is value for name, value in doubled.items())
    if isinstance(outputs, Found):
        assert back.count == 3


def test_a_transformers_output_keeps_its_kind() -> None:
    output = pytest.importorskip("transformers.modeling_outputs").SequenceClassifierOutput
    back = in_form(output(logits=X), {"logits": X + 1})
    assert isinstance(back, output)
    assert torch.equal(back.logits, X + 1)
