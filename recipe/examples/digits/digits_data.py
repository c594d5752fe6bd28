"""scikit-learn's digits: 1,797 real handwritten digits of 8x8 pixels, here scaled to 32x32."""

from __future__ import annotations

import torch
from prefect_hone import Data
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset


def digits(size: int = 32, test_share: float = 0.2, seed: int = 0) -> Data:
    """The factory that the recipe names.

    Args:
        size: Height and width of the images (pixels).
        test_share: Share of the samples that only judge.
        seed: Seed of the split.
    """
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    images = torch.nn.functional.interpolate(images, size=(size, size), mode="bilinear")
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    cut = int(len(images) * test_share)
    test, train = order[:cut], order[cut:]
    return Data(
        train=TensorDataset(images[train], labels[train]),
        test=TensorDataset(images[test], labels[test]),
        name="sklearn-digits",
    )
