"""scikit-learn's wine, with faults on request."""

import time

import torch
from prefect_hone import Data
from sklearn.datasets import load_wine
from torch.utils.data import Dataset, TensorDataset


class Slow(Dataset):
    def __init__(self, inner, seconds):
        self.inner, self.seconds = inner, seconds

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return self.inner[index]


def wine(delay=0.0, fault=None, calibration=None):
    bunch = load_wine()
    x = torch.tensor(bunch.data, dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    y = torch.tensor(bunch.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    train = TensorDataset(x[40:], y[40:])
    test = TensorDataset(x[:40], y[:40])
    if fault == "empty":
        test = TensorDataset(x[:0], y[:0])
    if fault == "one":
        test = TensorDataset(x[:1], y[:1])
    if fault == "raises":
        raise FileNotFoundError("/data/wine.csv")
    if fault == "not data":
        return x
    if fault == "not pairs":
        train = TensorDataset(x[40:])
    kept = {}
    if calibration == "overlap":
        kept["calibration"] = TensorDataset(x[35:60], y[35:60])
    if calibration == "other shape":
        kept["calibration"] = TensorDataset(x[40:60].reshape(20, 13, 1), y[40:60])
    return Data(
        train=Slow(train, delay) if delay else train, test=test, name="sklearn-wine", **kept
    )


def _scaled(batch):
    return {
        "features": (batch["raw"] * batch["scale"][:, None]).astype("float32"),
        "label": batch["label"],
    }


def streamed(rows=138, inputs="features", blocks=6, times=1):
    """The same as a Ray dataset whose preprocessing runs in Ray tasks; each row knows its number."""
    import numpy as np
    import ray.data

    torch_data = wine()
    x = np.tile(np.stack([sample[0].numpy() for sample in torch_data.train])[:rows], (times, 1))
    y = np.tile(np.array([int(sample[1]) for sample in torch_data.train])[:rows], times)
    table = ray.data.from_items(
        [{"raw": a, "scale": np.float32(1), "label": b} for a, b in zip(x, y, strict=True)],
        override_num_blocks=blocks,
    )
    train = table.map_batches(_scaled, batch_format="numpy")
    validation = ray.data.from_items(
        [{"features": sample[0].numpy(), "label": int(sample[1])} for sample in torch_data.train][
            :20
        ]
    )
    return Data(
        train=train, validation=validation, test=torch_data.test, name="wine-streamed",
        inputs=inputs, target="label", shuffle_rows=32,
    )  # fmt: skip


def judged_only():
    """No training split: for a model that comes trained."""
    data = wine()
    held = [data.train[i] for i in range(60)]
    calibration = TensorDataset(*(torch.stack(column) for column in zip(*held, strict=True)))
    return Data(train=None, calibration=calibration, test=data.test, name="wine-judged")


class _Pairs(Dataset):
    """Wine as tokens (13,) in 0..31 and scales (13,)."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        x, y = self.inner[index]
        tokens = (x * 4 + 16).long().clamp(0, 31)
        return {"tokens": tokens, "scale": torch.sigmoid(x)}, y


def pairs():
    """Samples whose inputs are a dictionary."""
    data = wine()
    return Data(train=_Pairs(data.train), test=_Pairs(data.test), name="wine-pairs")
