"""A small GPT-like character model: an ordinary module, with a tensor plan and a pipeline split.

Decoder-only transformer with pre-normalization (Radford et al., "Language Models are Unsupervised
Multitask Learners", 2019). Axes: B batch, T time, C channels, H heads, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Causal self-attention; each head's projections are adjacent, so heads can be split."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.head_size = channels // heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x_btc: torch.Tensor) -> torch.Tensor:
        def heads(y_btc: torch.Tensor) -> torch.Tensor:  # the number of heads here: -1
            return y_btc.unflatten(2, (-1, self.head_size)).transpose(1, 2)

        q_bhtc, k_bhtc, v_bhtc = (
            heads(self.query(x_btc)),
            heads(self.key(x_btc)),
            heads(self.value(x_btc)),
        )
        y_bhtc = F.scaled_dot_product_attention(q_bhtc, k_bhtc, v_bhtc, is_causal=True)
        out_btc: torch.Tensor = self.out(y_bhtc.transpose(1, 2).flatten(2))
        return out_btc


class Mlp(nn.Module):
    """Two layers, four times as wide between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.Linear(channels, 4 * channels)
        self.down = nn.Linear(4 * channels, channels)

    def forward(self, x_btc: torch.Tensor) -> torch.Tensor:
        out_btc: torch.Tensor = self.down(F.gelu(self.up(x_btc)))
        return out_btc


class Block(nn.Module):
    """Attention and MLP, each after a normalization and beside a shortcut."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)

    def forward(self, x_btc: torch.Tensor) -> torch.Tensor:
        x_btc = x_btc + self.attention(self.norm1(x_btc))
        return x_btc + self.mlp(self.norm2(x_btc))


class Embedding(nn.Module):
    """Characters and their positions."""

    def __init__(self, vocabulary: int, length: int, channels: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, channels)
        self.positions = nn.Embedding(length, channels)

    def forward(self, x_bt: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x_bt.shape[1], device=x_bt.device)
        out_btc: torch.Tensor = self.characters(x_bt) + self.positions(places)
        return out_btc


class Head(nn.Module):
    """Logits of the next character."""

    def __init__(self, channels: int, vocabulary: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.logits = nn.Linear(channels, vocabulary)

    def forward(self, x_btc: torch.Tensor) -> torch.Tensor:
        out_btv: torch.Tensor = self.logits(self.norm(x_btc))
        return out_btv


class CharLm(nn.Module):
    """Characters (B, T) to logits of the next one (B, T, V)."""

    def __init__(
        self, vocabulary: int, length: int, channels: int, heads: int, layers: int
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels can't be dealt out to {heads} heads")
        self.heads = heads
        self.embedding = Embedding(vocabulary, length, channels)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(layers))
        self.head = Head(channels, vocabulary)
        self.apply(self._initialize)

    def forward(self, x_bt: torch.Tensor) -> torch.Tensor:
        x_btc = self.embedding(x_bt)
        for block in self.blocks:
            x_btc = block(x_btc)
        out_btv: torch.Tensor = self.head(x_btc)
        return out_btv

    def tensor_parallel_plan(self, sequence_parallel: bool = False) -> dict[str, str]:
        """How each layer is split over the workers of the mesh axis `tensor`."""
        block = {
            "attention.query": "colwise",
            "attention.key": "colwise",
            "attention.value": "colwise",
            "attention.out": "rowwise",
            "mlp.up": "colwise",
            "mlp.down": "rowwise",
        }
        plan = {f"blocks.*.{name}": style for name, style in block.items()}
        if sequence_parallel:
            plan |= {"embedding": "split_sequence", "head.logits": "join_sequence"}
            plan |= dict.fromkeys(("blocks.*.norm1", "blocks.*.norm2", "head.norm"), "sequence")
        return plan

    def pipeline_split(self) -> list[str]:
        """The submodules that, one after the other, are the forward pass."""
        return ["embedding", *(f"blocks.{i}" for i in range(len(self.blocks))), "head"]

    @staticmethod
    def _initialize(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def charlm(
    vocabulary: int = 96, length: int = 64, channels: int = 64, heads: int = 4, layers: int = 4
) -> nn.Module:
    """The factory that the recipe names.

    Args:
        vocabulary: Number of known characters.
        length: Longest context (characters).
        channels: Width of the residual stream.
        heads: Attention heads of each block.
        layers: Blocks.
    """
    return CharLm(vocabulary, length, channels, heads, layers)
