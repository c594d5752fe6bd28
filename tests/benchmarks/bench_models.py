"""Models of transformers with random weights, as the benchmark's recipes name them."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset


class Resnet(nn.Module):
    """ResNet-18: images (N, 3, 224, 224) to logits (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetForImageClassification

        self.inner = ResNetForImageClassification(ResNetConfig(
            embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2],
            layer_type="basic", num_labels=1000,
        ))  # fmt: skip

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.inner(pixel_values=pixels).logits


class Bert(nn.Module):
    """A 6-layer encoder as in MiniLM-L6: tokens (N, 128) to hidden states (N, 128, 384)."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.inner = BertModel(BertConfig(
            num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536,
        ), add_pooling_layer=False)  # fmt: skip

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.inner(input_ids=tokens).last_hidden_state


def resnet() -> nn.Module:
    return Resnet()


def bert() -> nn.Module:
    return Bert()


def digits() -> nn.Module:
    from prefect_hone.recipe.examples.digits.digits_model import small_resnet

    return small_resnet()


def small_images():
    return images(shape=(1, 32, 32))


def images(count: int = 32, shape: tuple[int, ...] = (3, 224, 224)):
    from prefect_hone import Data

    x = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(count, dtype=torch.long)
    half = count // 2
    return Data(train=TensorDataset(x[:half], y[:half]), test=TensorDataset(x[half:], y[half:]))


def tokens(count: int = 32):
    from prefect_hone import Data

    x = torch.randint(0, 30_000, (count, 128), generator=torch.Generator().manual_seed(0))
    y = torch.zeros(count, dtype=torch.long)
    half = count // 2
    return Data(train=TensorDataset(x[:half], y[:half]), test=TensorDataset(x[half:], y[half:]))


class Large(nn.Module):
    """Tokens (N, 16) to logits (N, 8), through an embedding of 2.6 GB."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(160_000, 4096)
        self.head = nn.Linear(4096, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(tokens).mean(1))


def large() -> nn.Module:
    return Large()


def few_tokens(count: int = 16):
    from prefect_hone import Data

    x = torch.randint(0, 160_000, (count, 16), generator=torch.Generator().manual_seed(0))
    y = torch.zeros(count, dtype=torch.long)
    half = count // 2
    return Data(train=TensorDataset(x[:half], y[:half]), test=TensorDataset(x[half:], y[half:]))
