"""Small data that are unlike rows of numbers: padded, weighted, of other types, or faulty."""

import torch
from prefect_hone import Data
from torch.utils.data import TensorDataset


def tokens(count=48, length=6, ignored=True, vocabulary=12):
    """Random sequences; the next token is the target, and the ends don't count (-100)."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(0, vocabulary, (count, length + 1), generator=generator)
    x, y = x[:, :-1], x[:, 1:].clone()
    if ignored:
        lengths = torch.randint(1, length + 1, (count, 1), generator=generator)
        y[torch.arange(length) >= lengths] = -100
    rest = count // 4
    return Data(
        train=TensorDataset(x[2 * rest :], y[2 * rest :]),
        validation=TensorDataset(x[rest : 2 * rest], y[rest : 2 * rest]),
        test=TensorDataset(x[:rest], y[:rest]),
        name="tokens",
    )


def one_hot():
    """Rows of 13 numbers, with probabilities of 3 classes as targets."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(40, 13, generator=generator)
    y = torch.nn.functional.one_hot(torch.arange(40) % 3, 3).float()
    return Data(train=TensorDataset(x[:30], y[:30]), test=TensorDataset(x[30:], y[30:]))
