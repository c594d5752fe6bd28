"""Small models for the tests, one for each way of going wrong."""

import os
import signal

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=32, outputs=3):
        super().__init__()
        self.first = nn.Linear(13, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, outputs)

    def forward(self, x):
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))))


def net(width=32, outputs=3):
    return Net(width, outputs)


def raises():
    raise ValueError("no such weights")


def not_a_module():
    return "a string"


class Branching(Net):
    def forward(self, x):
        if x.sum() > 0:
            return super().forward(x)
        return super().forward(-x)


def branching():
    return Branching()


class Dying(Net):
    """Dies of SIGKILL in the training worker, once."""

    def __init__(self, marker, after=20):
        super().__init__()
        self.marker = marker
        self.after = after
        self.calls = 0

    def forward(self, x):
        if self.training:
            self.calls += 1
            if self.calls > self.after and not os.path.exists(self.marker):
                open(self.marker, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def dying(marker, after=20):
    return Dying(marker, after)


def _nothing_heavy(x):
    return x


class NoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(13))

    def forward(self, x):
        scaled = x * self.scale
        return torch.stack([scaled[:, :4].sum(1), scaled[:, 4:8].sum(1), scaled[:, 8:].sum(1)], 1)


def no_layers():
    return NoLayers()


def nan_loss(outputs, targets):
    """A loss that becomes NaN after a while: in the second epoch of training."""
    nan_loss.calls = getattr(nan_loss, "calls", 0) + (1 if outputs.requires_grad else 0)
    loss = nn.functional.cross_entropy(outputs, targets)
    return loss * float("nan") if nan_loss.calls > 7 else loss


def my_optimizer(parameters, lr):
    return torch.optim.RAdam(parameters, lr=lr)


class ConvNet(nn.Module):
    """A small ResNet-like model of the 13 numbers as an image (N, 1, 4, 4)."""

    def __init__(self, width=32, outputs=3):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        x = nn.functional.pad(x, (0, 3)).reshape(-1, 1, 4, 4)
        x = torch.relu(self.norm(self.stem(x)))
        x = x + torch.relu(self.middle(x))
        return self.head(x.mean((2, 3)))


def conv_net(width=32, outputs=3):
    return ConvNet(width, outputs)


class Pair(nn.Module):
    """Two named inputs, one of integers; two named outputs, of which the second is the main one."""

    def __init__(self, outputs=3):
        super().__init__()
        self.embedding = nn.Embedding(32, 16)
        self.logits = nn.Linear(16, outputs)

    def forward(self, tokens, scale):
        hidden = (self.embedding(tokens) * scale.unsqueeze(-1)).mean(1)
        return {"hidden": hidden, "logits": self.logits(torch.tanh(hidden))}


def pair(outputs=3):
    return Pair(outputs)


class Encoder(nn.Module):
    """A transformer block over the 13 numbers."""

    def __init__(self, channels=32, heads=4, outputs=3):
        super().__init__()
        self.embed = nn.Linear(1, channels)
        self.num_heads = heads
        self.head_dim = channels // heads
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(channels, 4 * channels), "fc2": nn.Linear(4 * channels, channels)}
        )
        self.head = nn.Linear(channels, outputs)

    def forward(self, x):
        x = self.embed(x.unsqueeze(-1))
        y = self.norm1(x)
        q, k, v = (
            p(y).unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out_proj(y)
        x = x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))
        return self.head(x.mean(1))


def encoder(channels=32, heads=4):
    return Encoder(channels, heads)


def weighted_loss(outputs, targets):
    """A mean over weights, which parts of a batch don't share."""
    return nn.functional.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 9.0, 0.1]))


def counted_loss(outputs, targets):
    """The same as a sum and what it is divided by."""
    weight = torch.tensor([1.0, 9.0, 0.1])
    total = nn.functional.cross_entropy(outputs, targets, weight=weight, reduction="sum")
    return total, weight[targets].sum()
