"""The splits of a data set, and their batches.

Validation and calibration default to seeded slices of train and are never taken from test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from ...recipe.data import Data
from ...recipe.errors import InputError
from .calling import INPUT, Arrays, arrays
from .ray_datasets import Streamed, in_memory

_VALIDATION_SHARE = 0.1
_CALIBRATION_SAMPLES = 512


@dataclass(frozen=True)
class Splits:
    """Torch datasets of `(inputs, target)`, and the function that batches them."""

    train: Any
    validation: Any
    calibration: Any
    test: Any
    collate: Any
    name: str
    given: frozenset[str]


def split(data: Any, seed: int) -> Splits:
    """Derive the splits that the factory did not give.

    Raises:
        InputError: The factory returned something else than a `Data`, or a split is empty.
    """
    if not isinstance(data, Data):
        raise InputError(
            f"the factory returned a {type(data).__name__}, expected a prefect_hone.Data",
            where="data.factory",
        )
    if data.train is None:
        if data.calibration is None:
            raise InputError(
                "without a training split there must be a calibration split",
                where="data.factory: Data.calibration",
                do="give Data(train=None, calibration=..., test=...)",
            )
        data = replace(data, train=data.calibration, validation=data.validation or data.calibration)
    given = {n for n in ("validation", "calibration") if getattr(data, n) is not None}
    data = in_memory(data)
    for name in ("train", "test", *given):
        _check_split(name, getattr(data, name))
    train, validation = data.train, data.validation
    order: list[int] = []
    if not isinstance(train, Streamed):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(train), generator=generator).tolist()
    if validation is None:
        cut = max(1, int(len(order) * _VALIDATION_SHARE))
        if cut >= len(order):
            raise InputError(
                f"train has {len(order)} samples, too few to take a validation split from",
                where="data.factory",
                do="give Data(validation=...), or more training samples",
            )
        validation, order = Subset(data.train, sorted(order[:cut])), order[cut:]
        train = Subset(data.train, sorted(order))
    calibration = data.calibration
    if calibration is None:
        calibration = Subset(data.train, order[:_CALIBRATION_SAMPLES])
    return Splits(
        train=train,
        validation=validation,
        calibration=calibration,
        test=data.test,
        collate=data.collate or default_collate,
        name=data.name,
        given=frozenset(given),
    )


def _check_split(name: str, dataset: Any) -> None:
    where = f"data.factory: Data.{name}"
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise InputError(
            f"a {type(dataset).__name__} is not a dataset with a length and items", where=where
        )
    if len(dataset) == 0:
        raise InputError("the split is empty", where=where)
    sample = dataset[0]
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        raise InputError(
            f"a sample is a {type(sample).__name__}, expected a pair (inputs, target)", where=where
        )


def batches(
    splits: Splits, dataset: Any, index_batches: Sequence[Sequence[int]]
) -> Iterator[tuple[Any, torch.Tensor]]:
    """The batches `(inputs, target)` of the given indices, in order."""
    loader = DataLoader(
        dataset,
        batch_sampler=cast(Any, [list(indices) for indices in index_batches]),
        collate_fn=splits.collate,
    )
    for inputs, target in loader:
        yield inputs, torch.as_tensor(target)


def few_samples(splits: Splits) -> tuple[Any, int]:
    """Inputs of a few training samples, to try a model with, and how many they are."""
    count = min(4, len(splits.train))
    return next(batches(splits, splits.train, [range(count)]))[0], count


def batch_indices(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    """Consecutive groups of at most `size` indices."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def stack(splits: Splits, dataset: Any, count: int) -> Arrays:
    """The first samples of a split as one batch of numpy arrays, each `(count, ...)`."""
    indices = range(min(count, len(dataset)))
    return arrays(next(batches(splits, dataset, [indices]))[0])


def fingerprints(dataset: Any) -> set[bytes]:
    """A digest of the inputs of each sample, to tell whether two splits overlap.

    Of a stream, only of its first rows.
    """
    found = set()
    for index in range(len(dataset.head if isinstance(dataset, Streamed) else dataset)):
        inputs = dataset[index][0]
        digest = hashlib.sha256()
        named = inputs if isinstance(inputs, dict) else {INPUT: inputs}
        for name, value in sorted(named.items()):
            array = np.ascontiguousarray(torch.as_tensor(value).numpy())
            digest.update(f"{name}{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        found.add(digest.digest())
    return found
