"""Which linear layers tensor parallelism can split, told by how they are connected."""

from __future__ import annotations

import pytest
import torch
from prefect_hone.ray_workers.training.parallel.connections import Pair, find_pairs
from prefect_hone.ray_workers.training.parallel.tensor import plan_for
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed
from prefect_hone.recipe.parallel import TensorParallel
from torch import nn


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.c(nn.functional.silu(self.a(x)) * self.b(x))


class TanhGelu(Gated):
    """GELU as GPT-2 writes it: the value is used several times on its way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        return self.c(0.5 * h * (1.0 + torch.tanh(0.8 * (h + 0.04 * torch.pow(h, 3)))))


class Residual(Gated):
    """What the last layer takes is not only what the first one gives."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.a(x)
        return self.c(torch.relu(hidden)) + hidden.sum()


class Normed(Gated):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(nn.functional.layer_norm(self.a(x), (6,)))


class Branching(nn.Module):
    """Can't be traced as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Gated(), Gated()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x) if x.sum() > 0 else x
        return x


def twice() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(4, 2))


def chain(width: int = 6) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 4), nn.Tanh(),
        nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (chain(), [Pair(("0",), "3", 6), Pair(("5",), "7", 4)]),
        (Gated(), [Pair(("a", "b"), "c", 6)]),
        (
            Branching(),
            [Pair((f"blocks.{i}.a", f"blocks.{i}.b"), f"blocks.{i}.c", 6) for i in (0, 1)],
        ),
        (TanhGelu(), [Pair(("a",), "c", 6)]),
        (Residual(), []),
        (Normed(), []),
        (twice(), []),
    ],
)
def test_only_what_nothing_mixes_is_split(model: nn.Module, expected: list[Pair]) -> None:
    assert find_pairs(model) == expected


def test_a_plain_sequential_has_a_plan() -> None:
    plan = plan_for(chain(), TensorParallel(), 2, Allowed())
    assert plan.styles == {"0": "colwise", "3": "rowwise", "5": "colwise", "7": "rowwise"}
    assert plan.derived
    assert plan_for(chain(), TensorParallel(), 4, Allowed()).styles == {
        "5": "colwise",
        "7": "rowwise",
    }
    with pytest.raises(
        InputError, match="no linear layer of a width that 5 divides leads to another"
    ):
        plan_for(chain(), TensorParallel(), 5, Allowed())
