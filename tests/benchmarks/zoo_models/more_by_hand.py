"""More architectures that are written by hand: of papers, tutorials and competitions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from zoo_inputs import SAMPLES, VOCABULARY, Inputs, ids


class TextCnn(nn.Module):
    """Convolutions of several widths over tokens (https://arxiv.org/abs/1408.5882)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.convolutions = nn.ModuleList(nn.Conv1d(16, 12, width) for width in (2, 3, 4))
        self.head = nn.Linear(36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).transpose(1, 2)
        found = [torch.relu(layer(x)).amax(2) for layer in self.convolutions]
        return self.head(torch.cat(found, 1))  # type: ignore[no-any-return]


class Crnn(nn.Module):
    """Convolutions, then an LSTM along the width, as text is read from images."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d((4, 2))
        )
        self.recurrent = nn.LSTM(32, 16, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 11)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        x = x.permute(0, 3, 1, 2).flatten(2)
        return self.head(self.recurrent(x)[0]).log_softmax(2)  # type: ignore[no-any-return]


class Cells(nn.Module):
    """An LSTM cell in a Python loop over the time steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(4, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = x.new_zeros(x.shape[0], 16)
        state = x.new_zeros(x.shape[0], 16)
        for step in range(x.shape[1]):
            hidden, state = self.cell(x[:, step], (hidden, state))
        return self.head(hidden)  # type: ignore[no-any-return]


class ConvLstm(nn.Module):
    """A convolutional LSTM over frames (https://arxiv.org/abs/1506.04214)."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.head = nn.Conv2d(1 + 8, 32, 3, padding=1), nn.Conv2d(8, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, _, height, width = x.shape
        hidden = state = torch.zeros(batch, 8, height, width)
        for frame in x.unbind(1):
            i, f, o, g = self.gates(torch.cat([frame, hidden], 1)).chunk(4, 1)
            state = f.sigmoid() * state + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * state.tanh()
        return self.head(hidden)  # type: ignore[no-any-return]


class Recommender(nn.Module):
    """DeepFM: factorization beside a perceptron (https://arxiv.org/abs/1703.04247)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.tensor([0, 10, 20, 30]))
        self.first, self.second = nn.Embedding(40, 1), nn.Embedding(40, 8)
        self.deep = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 1))

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        fields = fields + self.offsets
        x = self.second(fields)
        pairs = 0.5 * (x.sum(1).square() - x.square().sum(1)).sum(1, keepdim=True)
        return (self.first(fields).sum(1) + pairs + self.deep(x.flatten(1))).sigmoid()  # type: ignore[no-any-return]


class TwoTowers(nn.Module):
    """Users and items in one space; scores of each pair."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(50, 16), nn.Embedding(70, 16)
        self.user_tower, self.item_tower = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, user: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        one = F.normalize(self.user_tower(self.users(user)), dim=-1)
        many = F.normalize(self.item_tower(self.items(items)), dim=-1)
        return torch.einsum("bd,bnd->bn", one, many) / 0.07


class Variational(nn.Module):
    """A variational autoencoder that samples only while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU())
        self.mean, self.spread = nn.Linear(24, 4), nn.Linear(24, 4)
        self.decode = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 64))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.encode(x)
        mean, spread = self.mean(hidden), self.spread(hidden)
        return {"image": self.decode(mean).view(x.shape), "mean": mean, "spread": spread}


class Generator(nn.Module):
    """Noise to images by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ConvTranspose2d(8, 16, 4), nn.BatchNorm2d(16), nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return self.body(noise[:, :, None, None])  # type: ignore[no-any-return]


class SuperResolution(nn.Module):
    """Twice the size by a pixel shuffle (https://arxiv.org/abs/1609.05158)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.PReLU(), nn.Conv2d(16, 4, 3, padding=1),
            nn.PixelShuffle(2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + F.interpolate(x, scale_factor=2.0, mode="bicubic")  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """An MLP-Mixer (https://arxiv.org/abs/2105.01601)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, 8)
        self.norm1, self.norm2 = nn.LayerNorm(24), nn.LayerNorm(24)
        self.tokens = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.channels = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
        self.head = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm2(x))
        return self.head(x.mean(1))  # type: ignore[no-any-return]


class Squeeze(nn.Module):
    """A residual block with squeeze and excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in "12")
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width // 4, 1), nn.ReLU(),
            nn.Conv2d(width // 4, width, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.two(torch.relu(self.norm1(self.one(x)))))
        return torch.relu(x + y * self.gate(y))


class ResNet(nn.Module):
    """Residual blocks, a stride between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.block1, self.block2, self.head = Squeeze(16), Squeeze(32), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.down(self.block1(self.stem(x))))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Shuffle(nn.Module):
    """Grouped convolutions and a shuffle of channels, by views."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.grouped = nn.Conv2d(24, 24, 1, groups=3)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.norm, self.head = nn.GroupNorm(4, 24), nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(torch.relu(self.stem(x)))
        n, c, h, w = x.shape
        x = x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.norm(self.depthwise(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Dense(nn.Module):
    """Features of all earlier layers, concatenated; then a fixed flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 8 * i, 8, 3, padding=1) for i in range(3))
        self.pool, self.head = nn.AvgPool2d(4), nn.Linear(27 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat([x, F.leaky_relu(layer(x))], 1)
        return self.head(self.pool(x).view(x.size(0), -1))  # type: ignore[no-any-return]


class PointNet(nn.Module):
    """A set of points: a shared perceptron and the largest of each feature."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Sequential(
            nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 1)
        )
        self.turn, self.head = nn.Linear(32, 9), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turned = self.turn(self.each(x).amax(2)).view(-1, 3, 3) + torch.eye(3)
        return self.head(self.each(turned @ x).amax(2))  # type: ignore[no-any-return]


class Experts(nn.Module):
    """A mixture of experts: the two best of four, by a dense sum."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.head = nn.Linear(12, 4), nn.Linear(16, 3)
        self.experts = nn.ModuleList(nn.Linear(12, 16) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.gate(x)
        best, which = scores.topk(2, dim=1)
        weights = torch.zeros_like(scores).scatter(1, which, best.softmax(1))
        found = torch.stack([expert(x) for expert in self.experts], 1)
        return self.head(torch.relu((found * weights.unsqueeze(2)).sum(1)))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """A small GPT as tutorials write it: fused q, k, v, a causal mask in a buffer, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(VOCABULARY, 32), nn.Embedding(64, 32)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(32) for _ in range(3))
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.register_buffer("mask", torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64))
        self.head = nn.Linear(32, VOCABULARY, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t = x.size()
        x = self.embed(x) + self.places(torch.arange(t, device=x.device))
        q, k, v = self.qkv(self.norm1(x)).split(32, dim=2)
        q, k, v = (part.view(b, t, 4, 8).transpose(1, 2) for part in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * 8**-0.5
        scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf"))  # type: ignore[index]
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).contiguous().view(b, t, 32))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm3(x))  # type: ignore[no-any-return]


class Translation(nn.Module):
    """torch's own encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.body = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        length = target.shape[1]
        mask = torch.triu(torch.full((length, length), float("-inf")), 1)
        return self.head(self.body(self.embed(source), self.embed(target), tgt_mask=mask))  # type: ignore[no-any-return]


class Attentive(nn.Module):
    """A GRU encoder, and a decoder step that attends to it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.encoder, self.cell = nn.GRU(16, 16, batch_first=True), nn.GRUCell(32, 16)
        self.attend, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 9)

    def forward(self, source: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        memory, hidden = self.encoder(self.embed(source))
        query = hidden[-1].unsqueeze(1)
        context, _ = self.attend(query, memory, memory, key_padding_mask=source == 0)
        given = torch.cat([self.embed(last), context.squeeze(1)], 1)
        return self.head(self.cell(given, hidden[-1]))  # type: ignore[no-any-return]


class Fourier(nn.Module):
    """A Fourier neural operator in two dimensions, in real numbers but for the transforms."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.skip, self.project = (
            nn.Conv2d(i, o, 1) for i, o in ((1, 8), (8, 8), (8, 1))
        )
        self.weights = nn.Parameter(torch.randn(8, 8, 4, 4, 2) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lift(x)
        modes = torch.view_as_real(torch.fft.rfft2(x))[:, :, :4, :4]
        a, b = modes[..., 0], modes[..., 1]
        c, d = self.weights[..., 0], self.weights[..., 1]

        def multiplied(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return torch.einsum("nixy,ioxy->noxy", left, right)

        real, imaginary = multiplied(a, c) - multiplied(b, d), multiplied(a, d) + multiplied(b, c)
        spectrum = torch.complex(real, imaginary)
        back = torch.fft.irfft2(spectrum, s=x.shape[-2:])
        return self.project(F.gelu(back + self.skip(x)))  # type: ignore[no-any-return]


class Flow(nn.Module):
    """A coupling flow: new values, and the logarithm of the determinant."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 6)) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = x.new_zeros(len(x))
        for net in self.nets:
            one, two = x.chunk(2, dim=1)
            scale, shift = net(one).chunk(2, dim=1)
            scale = scale.tanh()
            x, total = torch.cat([two * scale.exp() + shift, one], 1), total + scale.sum(1)
        return x, total


class Gated(nn.Module):
    """WaveNet's gated dilated convolutions with skips, over weights that are normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 12, 1)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(nn.Conv1d(12, 24, 2, dilation=2**i))
            for i in range(3)
        )
        self.head = nn.Conv1d(12, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        skips = torch.zeros_like(x)
        for i, layer in enumerate(self.layers):
            value, gate = layer(F.pad(x, (2**i, 0))).chunk(2, 1)
            found = value.tanh() * gate.sigmoid()
            skips, x = skips + found, x + found
        return self.head(torch.relu(skips))  # type: ignore[no-any-return]


class Video(nn.Module):
    """Convolutions in three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2),
            nn.Conv3d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))  # type: ignore[no-any-return]


class Field(nn.Module):
    """A radiance field: positions in sines and cosines, and a skip to the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bands", 2.0 ** torch.arange(4), persistent=False)
        self.one, self.two, self.head = nn.Linear(24, 32), nn.Linear(56, 32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angles = (x[..., None] * self.bands).flatten(1)  # type: ignore[operator]
        x = torch.cat([angles.sin(), angles.cos()], 1)
        return self.head(torch.relu(self.two(torch.cat([torch.relu(self.one(x)), x], 1))))  # type: ignore[no-any-return]


#: The class, and the inputs.
MORE: dict[str, tuple[type[nn.Module], Inputs]] = {
    "text-cnn": (TextCnn, ids),
    "crnn": (Crnn, lambda: torch.randn(SAMPLES, 1, 16, 24)),
    "lstm-cells": (Cells, lambda: torch.randn(SAMPLES, 6, 4)),
    "conv-lstm": (ConvLstm, lambda: torch.randn(SAMPLES, 3, 1, 8, 8)),
    "deep-fm": (Recommender, lambda: torch.randint(0, 10, (SAMPLES, 4))),
    "two-towers": (TwoTowers, lambda: {"user": torch.randint(0, 50, (SAMPLES,)),
                                       "items": torch.randint(0, 70, (SAMPLES, 5))}),
    "variational": (Variational, lambda: torch.randn(SAMPLES, 1, 8, 8)),
    "generator": (Generator, lambda: torch.randn(SAMPLES, 8)),
    "super-resolution": (SuperResolution, lambda: torch.randn(SAMPLES, 1, 16, 16)),
    "mlp-mixer": (Mixer, lambda: torch.randn(SAMPLES, 3, 32, 32)),
    "se-resnet": (ResNet, lambda: torch.randn(SAMPLES, 3, 32, 32)),
    "shuffle": (Shuffle, lambda: torch.randn(SAMPLES, 3, 32, 32)),
    "dense-net": (Dense, lambda: torch.randn(SAMPLES, 3, 16, 16)),
    "point-net": (PointNet, lambda: torch.randn(SAMPLES, 3, 40)),
    "experts": (Experts, lambda: torch.randn(SAMPLES, 12)),
    "small-gpt": (Decoder, ids),
    "torch-transformer": (Translation, lambda: (ids(), ids(10))),
    "gru-attention": (Attentive, lambda: {"source": ids(), "last": ids(1)[:, 0]}),
    "fourier": (Fourier, lambda: torch.randn(SAMPLES, 1, 16, 16)),
    "flow": (Flow, lambda: torch.randn(SAMPLES, 6)),
    "wave-net": (Gated, lambda: torch.randn(SAMPLES, 1, 32)),
    "video": (Video, lambda: torch.randn(SAMPLES, 1, 4, 16, 16)),
    "radiance-field": (Field, lambda: torch.randn(SAMPLES, 3)),
}  # fmt: skip
