"""How a model is called, and which of its outputs counts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.data.calling import (
    INPUT,
    arrays,
    call_model,
    main_output,
    main_output_name,
    move,
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
