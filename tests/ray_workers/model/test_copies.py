"""A copy of a model works on itself, also where hooks hold on to the model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.model.copies import copied
from torch import nn


class Kept(nn.Module):
    """The activations of an inner layer, kept by a hook of some kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), nn.Linear(6, 2)
        self.kept: dict[str, torch.Tensor] = {}

        def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            self.kept["body"] = output

        def keep_by_default(_module: Any, _inputs: Any, output: Any, model: Kept = self, /) -> None:
            model.kept["body"] = output

        hooks = {
            "function": keep,
            "lambda": lambda *given: self.kept.update(body=given[2]),
            "default": keep_by_default,
            "method": self.keep,
        }
        if kind == "forward":
            inner = self.body.forward

            def forward(x: torch.Tensor) -> torch.Tensor:
                self.kept["body"] = inner(x)
                return self.kept["body"]

            self.body.forward = forward
        else:
            self.body.register_forward_hook(hooks[kind])

    def keep(self, _module: Any, _inputs: Any, output: torch.Tensor) -> None:
        self.kept["body"] = output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.body(x)
        return self.head(self.kept["body"])


@pytest.mark.parametrize("kind", ["function", "lambda", "default", "method", "forward"])
def test_hooks_of_a_copy_are_its_own(kind: str) -> None:
    torch.manual_seed(0)
    model, x = Kept(kind), torch.randn(3, 4)
    before = model(x)
    kept = model.kept["body"]
    other = copied(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
        changed = other(x)
    assert torch.equal(other.kept["body"], other.body[1](other.body[0](x)))
    assert not torch.equal(changed, before)
    assert model.kept["body"] is kept
    assert torch.equal(model(x), before)


def test_torch_copies_no_functions() -> None:
    model = Kept("lambda")
    with pytest.raises(KeyError):
        copy.deepcopy(model)(torch.ones(2, 4))
    assert model.kept, "the hook of the copy kept it in the original: what `copied` is for"
