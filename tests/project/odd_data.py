"""Small data that are unlike rows of numbers: padded, weighted, of other types, or faulty."""

import itertools
import random
import warnings

import numpy as np
import torch
from prefect_hone import Data
from torch.utils.data import TensorDataset


def tokens(count=48, length=6, ignored=True, vocabulary=12, lengths=False):
    """Random sequences; the next token is the target, and the ends don't count (-100)."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(0, vocabulary, (count, length + 1), generator=generator)
    x, y = x[:, :-1], x[:, 1:].clone()
    if ignored:
        kept = torch.randint(1, length + 1, (count, 1), generator=generator)
        y[torch.arange(length) >= kept] = -100
    rest = count // 4
    return Data(
        train=TensorDataset(x[2 * rest :], y[2 * rest :]),
        validation=TensorDataset(x[rest : 2 * rest], y[rest : 2 * rest]),
        test=TensorDataset(x[:rest], y[:rest]),
        name="tokens",
        collate=to_the_longest if lengths else None,
    )


def to_the_longest(samples):
    """A batch is as long as the longest of its sequences."""
    x, y = (torch.stack(column) for column in zip(*samples, strict=True))
    longest = max(1, int((y != -100).sum(1).max()))
    return x[:, :longest], y[:, :longest]


def several(count=120, form="names"):
    """Rows of 13 numbers; targets are a price, how much the sample counts, and a class."""
    x = torch.randn(count, 13, generator=torch.Generator().manual_seed(5))

    def change(_index, x, _y):
        named = {"price": x[4] * 2, "weight": 1.0 + float(x[0] > 0), "kind": int(x[:3].argmax())}
        return x, named if form == "names" else tuple(named.values())

    rest = count // 3
    parts = [[change(i, x[i], 0) for i in range(start, start + rest)]
             for start in range(0, count, rest)]  # fmt: skip
    return Data(train=parts[0], validation=parts[1], test=parts[2])


def pairs(count=90):
    """Rows of numbers and bags of words, and whether they belong together."""
    generator = torch.Generator().manual_seed(6)
    parts = []
    for _ in range(3):
        x = torch.randn(count // 3, 13, generator=generator)
        words = torch.randint(0, 9, (count // 3, 4), generator=generator)
        parts.append(
            [
                ({"image": a, "text": b}, i % 2)
                for i, (a, b) in enumerate(zip(x, words, strict=True))
            ]
        )
    return Data(train=parts[0], validation=parts[1], test=parts[2])


def one_hot():
    """Rows of 13 numbers, with probabilities of 3 classes as targets."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(40, 13, generator=generator)
    y = torch.nn.functional.one_hot(torch.arange(40) % 3, 3).float()
    return Data(train=TensorDataset(x[:30], y[:30]), test=TensorDataset(x[30:], y[30:]))


class Rows(torch.utils.data.Dataset):
    """Rows of 13 numbers, each with a class; what `change` makes of a sample."""

    def __init__(self, count, start=0, change=None):
        self.count, self.start, self.change = count, start, change

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(self.start + index)
        sample = torch.randn(13, generator=generator), index % 3
        return sample if self.change is None else self.change(index, *sample)


class Shrinking(Rows):
    """Loses its last row when it is asked for its length once more."""

    def __len__(self):
        self.count -= 1
        return self.count + 1


class Given(torch.utils.data.IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        for index in range(len(self.rows)):
            yield self.rows[index]


class Counted(Given):
    def __len__(self):
        return len(self.rows)


def augmented(_index, x, y):
    """Random by all three generators that people use."""
    return x + torch.rand(13) + random.random() + float(np.random.rand()), y


def at_seven(make):
    return lambda index, x, y: make(x, y) if index == 7 else (x, y)


def as_double(_index, x, y):
    return x.double(), y


def as_whole(_index, x, y):
    return x.long(), y


def told(_index, x, y):
    warnings.warn("rows are made up", UserWarning, stacklevel=1)
    return x, y


CALLS = itertools.count()
CHANGES = {
    "text": at_seven(lambda x, y: ("a cat", y)),
    "none": at_seven(lambda x, y: (x, None)),
    "raises": at_seven(lambda x, y: (x / 0, int("cat"))),
    "nan input": at_seven(lambda x, y: (x * float("nan"), y)),
    "nan target": at_seven(lambda x, y: (x, float("nan"))),
    "float64": as_double, "integers": as_whole, "augmented": augmented, "told": told,
}  # fmt: skip


def rows(kind=None, split="train", count=40, start=0):
    """The split of that name has the change, or is of the kind `iterable` or `counted`."""
    made = {"train": Rows(count, start), "test": Rows(12, 1000)}
    change = CHANGES.get(kind)
    if change is not None:
        inner = made[split]
        made[split] = Rows(inner.count, inner.start, change)
    if kind in ("iterable", "counted"):
        made = {n: (Given if kind == "iterable" else Counted)(r) for n, r in made.items()}
    if kind == "shrinks":
        made[split] = Shrinking(made[split].count, made[split].start)
    if kind == "other length":
        made[split] = Rows(made[split].count - next(CALLS), made[split].start)
    if kind == "other rows":
        made["test"] = Rows(12, 1000 + next(CALLS), lambda _, x, y: (x, int(x[0] > 0)))
    if kind == "other inputs":
        made["test"] = Rows(12, 1000, augmented)
    if kind == "same":
        made["test"] = made["train"]
    if kind == "short collate":
        made["collate"] = lambda s: (
            torch.stack([x for x, _ in s[1:]]),
            torch.tensor([y for _, y in s]),
        )
    if kind == "long collate":
        made["collate"] = lambda s: (
            torch.stack([x for x, _ in s]),
            torch.tensor([y for _, y in s] * 2),
        )
    return Data(**made)
