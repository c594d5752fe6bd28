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
