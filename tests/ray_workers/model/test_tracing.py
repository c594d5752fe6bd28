"""What stays free in a traced model, and by which line the rest is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.data.calling import Arrays, arrays
from prefect_hone.ray_workers.model.axes import Varying
from prefect_hone.ray_workers.model.tracing import example_of, trace
from prefect_hone.recipe.errors import StepFailed
from torch import nn
from user_modules import user_module

LENGTH = Varying(input="tokens", axis=1, name="length", least=3, most=9)
MODELS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.recurrent = nn.LSTM(8, 8, batch_first=True, bidirectional=True, num_layers=2)
        self.last = nn.Linear(16, 3)


class Samples(Net):
    def forward(self, tokens):
        found = []
        for row in tokens:
            found.append(self.embed(row).mean(0))
        return torch.stack(found)


class Positions(Net):
    def forward(self, tokens):
        x = self.embed(tokens)
        return torch.stack([x[:, i] for i in range(tokens.shape[1])], 1).mean(1)


class Number(Net):
    def forward(self, tokens):
        count = int(tokens.shape[0])
        return self.embed(tokens).mean(1).view(count, 8)


class Recurrent(Net):
    def forward(self, tokens):
        return self.last(self.recurrent(self.embed(tokens))[0].mean(1))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> object:
    return user_module(tmp_path_factory.mktemp("code"), "shapes_models", MODELS)


TOKENS: Arrays = {"tokens": np.random.default_rng(0).integers(0, 50, (2, 7))}


@pytest.mark.parametrize(
    ("name", "what", "line"),
    [
        ("Samples", "the batch axis can't vary", 17),
        ("Positions", "axis 1 of 'tokens' can't vary", 25),
        ("Number", "the batch axis can't vary", 30),
    ],
)
def test_code_that_fixes_an_axis_is_refused_by_its_line(
    models: object, name: str, what: str, line: int
) -> None:
    with pytest.raises(StepFailed, match=what) as refused:
        trace(getattr(models, name)().eval(), TOKENS, [LENGTH])
    assert refused.value.where == f"shapes_models.py:{line} in forward"
    assert "loop" in str(refused.value.do)


def test_a_recurrent_layer_takes_any_length(models: object) -> None:
    model = models.Recurrent().eval()  # type: ignore[attr-defined]
    traced = trace(model, TOKENS, [LENGTH])
    assert traced.axes == {"tokens": {0: "batch", 1: "length"}}
    value = next(n for n in traced.program.graph.nodes if n.name == "tokens").meta["val"]
    assert all(isinstance(size, torch.SymInt) for size in value.shape)
    assert model(torch.ones(1, 3, dtype=torch.long)).shape == (1, 3), "torch's own is back"


@dataclasses.dataclass
class Found:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    cache: object = None


class Several(nn.Module):
    """Inputs by name, in pairs, optional, half and double; outputs in a dataclass."""

    def forward(
        self,
        x: torch.Tensor,
        pair: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
    ) -> Found:
        y = x + pair[0] * pair[1]
        if scale is not None:
            y = y * scale.float().unsqueeze(-1)
        y = torch.where(mask, y, 0) if mask is not None else y
        return Found(y, (x, y), object())


def test_inputs_and_outputs_keep_the_names_of_their_places() -> None:
    x = torch.randn(2, 3)
    inputs = {"scale": torch.ones(2).double(), "pair": (x, x), "x": x, "mask": None}
    model = Several().eval()
    traced = trace(model, arrays(inputs))
    assert traced.inputs == ("x", "pair.0", "pair.1", "scale"), "in the order of the arguments"
    assert traced.outputs == ("logits", "hidden.0", "hidden.1")
    assert traced.main == "logits"
    found = traced.program.module()(x=x, pair=(x, x), scale=torch.ones(2).double())
    assert torch.equal(found["logits"], x + x * x)
    assert "forward" not in vars(model), "the model is as it was"


def test_the_example_has_no_axis_of_one_where_there_is_a_choice() -> None:
    one, two = {"x": np.ones((1, 1))}, {"x": np.ones((4, 5))}
    assert example_of([one, two])["x"].shape == (3, 5)
    assert example_of([one])["x"].shape == (2, 1)


class Places(torch.nn.Module):
    def forward(
        self, numbers: torch.Tensor, parts: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        return numbers.sum(1) + parts[0] + parts[1].sum(1)


def test_inputs_that_come_in_the_order_of_their_types_are_taken_by_their_places() -> None:
    """As safetensors keeps them: integers first. A pair of floats and integers could not be exported."""
    ints, floats = np.arange(3), np.ones((3, 4), np.float32)
    example = {"input_1.0": ints, "input_1.1": floats, "input_0": 2 * floats}
    traced = trace(Places().eval(), example)
    assert traced.inputs == ("input_0", "input_1.0", "input_1.1")
    given = torch.from_numpy(2 * floats), (torch.from_numpy(ints), torch.from_numpy(floats))
    assert traced.program.module()(*given).tolist() == [12, 13, 14]


class Classified(nn.Module):
    """A token for the class, as many as samples: `len` of a tensor is no free size by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        assert len([tokens, x]) == 2
        return tokens.mean(1) * len(tokens)


def test_len_of_a_tensor_stays_free() -> None:
    model = Classified().eval()
    traced = trace(model, {"input": np.ones((3, 5, 4), np.float32)})
    for count in (1, 7):
        x = torch.randn(count, 5, 4)
        assert torch.allclose(traced.program.module()(x), model(x))
    assert "len" not in globals()
