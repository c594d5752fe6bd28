"""What users' code does wrong, as a module that tests put into a code folder."""

from __future__ import annotations

#: Of `bad.py`, which lies beside the test project's own modules.
BAD = """\
import os
from dataclasses import replace

import numpy as np
import torch
from prefect_hone import Data
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from wine_data import wine
from wine_model import Net


class Double(Net):
    def forward(self, x):
        return super().forward(x.double())


class Meta(Net):
    def forward(self, x):
        return super().forward(x.to("meta"))


class Cuda(Net):
    def forward(self, x):
        return super().forward(x.to("cuda"))


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return self.conv(x)


class Embed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 3)

    def forward(self, x):
        return self.table(x.abs().long() + 100).mean(1)


class FloatIndex(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 3)

    def forward(self, x):
        return self.table(x)


class Views(Net):
    def forward(self, x):
        return super().forward(x.view(-1, 7))


class Concat(Net):
    def forward(self, x):
        return super().forward(torch.cat([x, x[:, :2].t()], dim=1))


class Missing(Net):
    def forward(self, x):
        return self.nowhere(x)


class Imports(Net):
    def forward(self, x):
        import no_such_module_either
        return super().forward(x)


class NoInit(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(13, 3)


class NoForward(nn.Module):
    pass


class Nothing(Net):
    def forward(self, x):
        super().forward(x)


class NumpyOut(Net):
    def forward(self, x):
        return super().forward(x).detach().numpy()


class ScalarOut(Net):
    def forward(self, x):
        return super().forward(x).sum()


class TwoArguments(Net):
    def forward(self, x, mask):
        return super().forward(x)


class Inplace(Net):
    def forward(self, x):
        y = super().forward(x)
        z = y.exp()
        y += 1
        z *= y
        return z


class LayerNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(7)

    def forward(self, x):
        return self.norm(x)


class Recursive(Net):
    def forward(self, x):
        return self.forward(x)


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(13, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.lstm(x[:, None, None, :])[0])


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(13, 4)


class NanOut(Net):
    def forward(self, x):
        return super().forward(x) * float("nan")


class Asserts(Net):
    def forward(self, x):
        assert x.shape[1] == 7
        return super().forward(x)


class Exits(Net):
    def forward(self, x):
        raise SystemExit("enough")


class Loops(Net):
    def forward(self, x):
        return torch.stack([super(Loops, self).forward(row) for row in x])


def a_class():
    return Net


def a_state_dict():
    return Net(32).state_dict()


def nothing():
    pass


def lazily():
    return nn.LazyLinear(3)


def heads():
    return Heads()


def needs(width):
    return Net(width)


def prints_secrets():
    raise RuntimeError("see https://me:pa55word@host/x")


def long_words():
    raise RuntimeError("no: " + "word " * 200 + "end")


def many_lines():
    raise RuntimeError("first line\\nsecond line\\nthird line")


def exits():
    raise SystemExit(3)


def asserts():
    assert os.environ.get("NOWHERE"), "set NOWHERE"


def reads_nowhere():
    return np.load("/data/nowhere.npy")


def reads_json():
    import json
    return json.loads("{'a': 1}")


def key_error():
    return {}["width"]


def on_gpu():
    return Net(32).to("cuda")


def loads_pickle():
    return torch.load("/nowhere.pt")


def hub():
    return torch.hub.load("/nowhere/hub", "net", source="local")


class Loss(nn.Module):
    def forward(self, outputs, targets):
        return F.cross_entropy(outputs, targets.float().unsqueeze(1).repeat(1, 5))


def loss_class_count(outputs, targets):
    return F.cross_entropy(outputs[:, :2], targets)


def loss_float(outputs, targets):
    return float(outputs.mean())


def loss_nothing(outputs, targets):
    pass


def loss_one_argument(outputs):
    return outputs.mean()


def loss_detached(outputs, targets):
    return outputs.detach().mean()


def loss_integer(outputs, targets):
    return outputs.argmax(1).sum()


def loss_inf(outputs, targets):
    return outputs.mean() / 0


def loss_complex(outputs, targets):
    return torch.fft.fft(outputs).mean()


class Metric:
    higher_is_better = True

    @staticmethod
    def per_sample(outputs, targets):
        return (outputs - targets.float()) ** 2

    @staticmethod
    def aggregate(statistics):
        return float(statistics.mean())


class MetricRaises(Metric):
    @staticmethod
    def per_sample(outputs, targets):
        raise ValueError("no classes")


class MetricShort(Metric):
    @staticmethod
    def per_sample(outputs, targets):
        return torch.zeros(3)


class MetricText(Metric):
    @staticmethod
    def per_sample(outputs, targets):
        return torch.zeros(len(targets))

    @staticmethod
    def aggregate(statistics):
        return "good"


class MetricNan(MetricText):
    @staticmethod
    def aggregate(statistics):
        return float("nan")


metric, metric_raises, metric_short = Metric, MetricRaises, MetricShort
metric_text, metric_nan = MetricText, MetricNan


def of(train=None, test=None, **more):
    data = wine()
    return Data(train=train or data.train, test=test or data.test, **more)


class Samples(Dataset):
    def __init__(self, make, count=60):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        return self.make(index)


def samples(kind):
    make = {
        "none": lambda i: None,
        "none inside": lambda i: (None, torch.tensor(0)),
        "text": lambda i: ("some text", torch.tensor(0)),
        "text target": lambda i: (torch.zeros(13), "cat"),
        "one": lambda i: torch.zeros(13),
        "three": lambda i: (torch.zeros(13), torch.tensor(0), torch.tensor(1)),
        "numpy": lambda i: (np.zeros(13), 0),
        "ragged": lambda i: (torch.zeros(10 + i % 3), torch.tensor(0)),
        "other keys": lambda i: ({"a": torch.zeros(13)} if i else {"b": torch.zeros(13)}, 0),
        "list": lambda i: [[0.0] * 13, 0],
        "image": lambda i: (torch.zeros(13, dtype=torch.uint8), torch.tensor(0)),
        "nan": lambda i: (torch.full((13,), float("nan")), torch.tensor(0)),
        "classes": lambda i: (torch.zeros(13), torch.tensor(7)),
        "negative": lambda i: (torch.zeros(13), torch.tensor(-1)),
        "complex": lambda i: (torch.zeros(13, dtype=torch.complex64), torch.tensor(0)),
        "sparse": lambda i: (torch.zeros(13).to_sparse(), torch.tensor(0)),
        "grad": lambda i: (torch.zeros(13, requires_grad=True) * 1, torch.tensor(0)),
        "opens": lambda i: (open("/data/images/%d.png" % i), 0),
        "index": lambda i: [(torch.zeros(13), 0)][i],
        "divides": lambda i: (torch.zeros(13) / (i % 5 and 1 // (i % 5)), 1 // (i % 7)),
        "out of memory": lambda i: (torch.zeros(10**13), 0),
        "cuda": lambda i: (torch.zeros(13, device="cuda"), 0),
    }[kind]
    return of(Samples(make), Samples(make))


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(13), torch.tensor(0)


class WithLength(IterableDataset):
    def __len__(self):
        return 60

    def __iter__(self):
        return iter([(torch.zeros(13), torch.tensor(0))] * 60)


def iterable():
    return of(Endless())


def iterable_with_length():
    return of(WithLength())


class LyingLength(Samples):
    def __len__(self):
        return 100


def lying():
    return of(LyingLength(lambda i: (torch.zeros(13), torch.tensor(0))))


def a_list():
    return of([(torch.zeros(13), 0)] * 60)


def a_generator():
    return of((x for x in wine().train))


def a_tuple():
    data = wine()
    return data.train, data.test


def same_split():
    data = wine()
    return Data(train=data.train, test=data.train, calibration=data.test)


def no_train():
    return Data(train=None, test=wine().test)


def unknown_field():
    return Data(train=wine().train, test=wine().test, tests=1)


def no_arguments():
    return Data()


def collates(kind):
    def collate(batch):
        x = torch.stack([s[0] for s in batch])
        y = torch.stack([s[1] for s in batch])
        return {
            "short": lambda: (x[:1], y[:1]),
            "one": lambda: x,
            "nothing": lambda: None,
            "numpy": lambda: (x.numpy(), y.numpy()),
            "text": lambda: (x, ["a"] * len(y)),
            "raises": lambda: (x, y["label"]),
            "transposed": lambda: (x.t(), y),
        }[kind]()

    return replace(wine(), collate=collate)


def classes():
    return Net(32)
"""
