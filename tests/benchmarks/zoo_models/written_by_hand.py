"""Architectures of the zoo that are written by hand: what people write before they need a library."""

from __future__ import annotations

import torch
from torch import nn
from zoo_inputs import SAMPLES, VOCABULARY, Inputs, ids


class Lstm(nn.Module):
    """A classifier of token sequences by an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.recurrent = nn.LSTM(16, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.recurrent(self.embed(x))[0][:, -1])
        return found


class Gru(Lstm):
    """The same by a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(16, 32, batch_first=True)  # type: ignore[assignment]


class Rnn(Lstm):
    """The same by a plain recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.RNN(16, 32, batch_first=True)  # type: ignore[assignment]


class UNet(nn.Module):
    """An encoder and decoder with skip connections; images (N, 3, 32, 32) to masks."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.merge = nn.Conv2d(24, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.down1(x)
        two = self.up(self.down2(self.pool(one)))
        found: torch.Tensor = self.last(torch.relu(self.merge(torch.cat([one, two], 1))))
        return found


class Siamese(nn.Module):
    """Two images through the same encoder; their distance and both embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8)
        )

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, ...]:
        one, two = self.encoder(left), self.encoder(right)
        return nn.functional.cosine_similarity(one, two).unsqueeze(1), one, two


class Autoencoder(nn.Module):
    """Reconstruction and code."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(20, 12), nn.GELU(), nn.Linear(12, 4))
        self.decode = nn.Sequential(nn.Linear(4, 12), nn.GELU(), nn.Linear(12, 20))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        code = self.encode(x)
        return {"reconstruction": self.decode(code), "code": code}


class Detector(nn.Module):
    """A single-shot head: classes and boxes of every cell."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.SiLU()
        )
        self.classes, self.boxes = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.backbone(x)
        height, width = x.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([columns, rows], 2).reshape(1, -1, 2)
        boxes = self.boxes(x).flatten(2).transpose(1, 2)
        centers = (boxes[..., :2].sigmoid() + grid) * 4
        return {
            "scores": self.classes(x).flatten(2).transpose(1, 2),
            "boxes": torch.cat([centers, boxes[..., 2:].exp()], 2),
        }


class Tabular(nn.Module):
    """Embeddings of categories beside numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, 4) for size in (10, 20, 5))
        self.body = nn.Sequential(
            nn.Linear(12 + 6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2)
        )

    def forward(self, categories: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        parts = [table(categories[:, i]) for i, table in enumerate(self.tables)]
        found: torch.Tensor = self.body(torch.cat([*parts, numbers.float()], 1))
        return found


class Graph(nn.Module):
    """A graph network by adjacency matrices; the mean over the nodes that a mask lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, nodes: torch.Tensor, edges: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        edges = edges.float()
        degree = edges.sum(2, keepdim=True).clamp(min=1)
        x = torch.relu(self.one(edges @ nodes / degree))
        x = torch.relu(self.two(edges @ x / degree)) * mask.unsqueeze(2)
        found: torch.Tensor = self.head(x.sum(1) / mask.sum(1, keepdim=True))
        return found


class Attention(nn.Module):
    """torch's own transformer encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.encoder(self.embed(x)).mean(1))
        return found


class Biased(nn.Module):
    """Attention with a learned bias for each distance, as T5 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.bias, self.head = nn.Embedding(32, 4), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, length = x.shape[:2]
        q, k, v = (
            layer(x).view(n, -1, 4, 4).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        steps = torch.arange(length)
        bias = self.bias(steps[:, None] - steps[None] + length).permute(2, 0, 1)[None]
        x = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        found: torch.Tensor = self.head(x.transpose(1, 2).contiguous().reshape(n, length, -1))
        return found


class Temporal(nn.Module):
    """Dilated causal convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(4, 4, 3, dilation=2**i) for i in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, layer in enumerate(self.layers):
            x = x + torch.tanh(layer(nn.functional.pad(x, (2 * 2**i, 0))))
        found: torch.Tensor = self.head(x[..., -1])
        return found


class Spectral(nn.Module):
    """The spectrum of a signal, as keyword spotting does it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(64), persistent=False)
        self.head = nn.Linear(33, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.unfold(1, 64, 32) * self.window
        found: torch.Tensor = self.head(torch.fft.rfft(frames).abs().log1p().mean(1))
        return found


#: Written by hand: the class, and the inputs.
BY_HAND: dict[str, tuple[type[nn.Module], Inputs]] = {
    "lstm": (Lstm, ids),
    "gru": (Gru, ids),
    "rnn": (Rnn, ids),
    "u-net": (UNet, lambda: torch.randn(SAMPLES, 3, 32, 32)),
    "siamese": (Siamese, lambda: (torch.randn(SAMPLES, 3, 16, 16),) * 2),
    "autoencoder": (Autoencoder, lambda: torch.randn(SAMPLES, 20)),
    "detector": (Detector, lambda: torch.randn(SAMPLES, 3, 32, 32)),
    "tabular": (Tabular, lambda: {"categories": torch.randint(0, 5, (SAMPLES, 3)),
                                  "numbers": torch.randn(SAMPLES, 6).double()}),
    "graph": (Graph, lambda: {"nodes": torch.randn(SAMPLES, 7, 6),
                              "edges": torch.rand(SAMPLES, 7, 7) > 0.5,
                              "mask": torch.ones(SAMPLES, 7)}),
    "attention": (Attention, ids),
    "biased": (Biased, lambda: torch.randn(SAMPLES, 12, 16)),
    "temporal": (Temporal, lambda: torch.randn(SAMPLES, 4, 20)),
    "spectral": (Spectral, lambda: torch.randn(SAMPLES, 400)),
}  # fmt: skip
