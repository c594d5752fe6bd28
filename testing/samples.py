"""Small seeded, untrained models and a small data set, to try passes and targets on.

Inputs are 16 numbers; targets are 4 classes, a linear function of them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from ..recipe.data import Data

FEATURES, CLASSES, WIDTH = 16, 4, 32


class _Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(torch.relu(self.second(torch.relu(self.first(x)))))
        return out


class _ConvNet(nn.Module):
    """A small residual network on the numbers as an image (N, 1, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.middle = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x.reshape(-1, 1, 4, 4))))
        x = x + torch.relu(self.middle(x))
        out: torch.Tensor = self.head(x.mean((2, 3)))
        return out


class _Encoder(nn.Module):
    """A transformer block over the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim = 4, WIDTH // 4
        self.embed = nn.Linear(1, WIDTH)
        self.q_proj, self.k_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.v_proj, self.out_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(WIDTH, 4 * WIDTH), "fc2": nn.Linear(4 * WIDTH, WIDTH)}
        )
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.unsqueeze(-1))
        y = self.norm1(x)
        q, k, v = (
            p(y).unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out_proj(y)
        x = x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))
        out: torch.Tensor = self.head(x.mean(1))
        return out


class _NoLayers(nn.Module):
    """A model without anything that a pass could make smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(FEATURES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.scale).unflatten(1, (CLASSES, -1)).sum(2)


class _Unknown(_Perceptron):
    """A model with an operator that no runtime supports."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.airy_ai(super().forward(x))


def _seeded(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind().eval()


def perceptron() -> nn.Module:
    return _seeded(_Perceptron)


def conv_net() -> nn.Module:
    return _seeded(_ConvNet)


def encoder() -> nn.Module:
    return _seeded(_Encoder)


def no_layers() -> nn.Module:
    return _seeded(_NoLayers)


def unknown_operator() -> nn.Module:
    return _seeded(_Unknown)


def rows(train: int = 128, test: int = 64) -> Data:
    """Rows of numbers, and the class of each."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(train + test, FEATURES, generator=generator)
    y = (x @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(1)
    return Data(
        train=TensorDataset(x[:train], y[:train]),
        test=TensorDataset(x[train:], y[train:]),
        name="rows",
    )
