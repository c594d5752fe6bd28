"""The splits of a data set, and their batches.

Validation and calibration default to seeded slices of train and are never taken from test.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from ...recipe.data import Data
from ...recipe.errors import InputError
from ...recipe.library_messages import described
from .calling import Arrays, arrays
from .fetching import WEIGHTS_ADVICE, Fetcher, Part, Wanted, fields, named_inputs, place_of
from .formats import format_of
from .shared_reading import read_once
from .split_format import Feed, SplitFormat
from .targets import named_targets
from .torch_datasets import TorchDatasets

SPLITS = ("train", "test", "validation", "calibration")
_VALIDATION_SHARE = 0.1
_CALIBRATION_SAMPLES = 512


@dataclass(frozen=True)
class Splits:
    """Torch datasets of `(inputs, target)`, and the function that batches them.

    Attributes:
        train: For training; all of it, or the first rows of a stream, can be read by index.
        validation: To select checkpoints and to stop.
        calibration: For quantization ranges.
        test: For the final evaluation.
        head: The part of train that can be read by index.
        streams: Whether the whole train split comes from a feed only.
        collate: From a list of samples to a batch.
        name: Of the data set.
        given: Which of validation and calibration the factory gave.
        text: From a sample's inputs to a text, if the factory gave it.
        groups: The group of each sample of the test split, by name.
    """

    train: Any
    validation: Any
    calibration: Any
    test: Any
    head: Any
    streams: bool
    collate: Any
    name: str
    given: frozenset[str]
    text: Callable[[Any], str] | None = None
    groups: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def split(data: Any, seed: int) -> Splits:
    """Derive the splits that the factory did not give.

    Raises:
        InputError: The factory returned something else than a `Data`, or a split is empty.
    """
    if not isinstance(data, Data):
        raise InputError(
            f"the factory returned {described(data)}, expected a prefect_hone.Data",
            where="data.factory",
        )
    _refuse_same_object(data)
    asked = data
    if data.train is None:
        if data.calibration is None:
            raise InputError(
                "without a training split there must be a calibration split",
                where="data.factory: Data.calibration",
                do="give Data(train=None, calibration=..., test=...)",
            )
        data = replace(data, train=data.calibration, validation=data.validation or data.calibration)
    given = {n for n in ("validation", "calibration") if getattr(data, n) is not None}
    form = format_of("train", data)
    streams = form.streams
    if streams and data.validation is None:
        raise InputError(
            f"{form.name} as train needs a validation split: none can be taken from a stream",
            where="data.factory: Data.validation",
            do="give Data(validation=...), for example by dataset.train_test_split",
        )
    data = _read(data, asked)
    head = data.train.head if streams else data.train
    for name in ("train", "test", *given):
        _check_split(name, getattr(data, name))
    train, validation = data.train, data.validation
    order: list[int] = []
    if not streams:
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
        validation, order = Part(data.train, sorted(order[:cut])), order[cut:]
        train = Part(data.train, sorted(order))
    calibration = data.calibration
    if calibration is None:
        calibration = head if streams else Part(data.train, order[:_CALIBRATION_SAMPLES])
    return Splits(
        train=train,
        validation=validation,
        calibration=calibration,
        test=data.test,
        head=head if streams else train,
        streams=streams,
        collate=data.collate or default_collate,
        name=data.name,
        given=frozenset(given),
        text=data.text,
        groups=data.groups if isinstance(data.groups, Mapping) else {},
    )


def _read(data: Data, asked: Data) -> Data:
    """The same data, with its splits as torch datasets; a train split may remain a stream.

    Args:
        data: The splits.
        asked: What the factory returned.
    """
    there = [name for name in SPLITS if getattr(data, name) is not None]
    groups: dict[int, tuple[SplitFormat, dict[str, Any]]] = {}
    for name in there:
        found = format_of(name, data)
        groups.setdefault(id(found), (found, {}))[1][name] = getattr(data, name)
    read: dict[str, Any] = {}
    for found, splits in groups.values():
        if isinstance(found, TorchDatasets):
            read |= found.read(splits, data)
        else:
            read |= read_once(asked, " ".join(splits), partial(found.read, splits, data))
    return replace(data, **read)


@contextmanager
def feed_of(data: Any, seed: int) -> Iterator[Feed | None]:
    """A context that gives access to a streamed train split; None if it does not stream.

    Args:
        data: What the factory returned.
        seed: Of the recipe.
    """
    found = format_of("train", data) if isinstance(data, Data) and data.train is not None else None
    if found is None or not found.streams:
        yield None
        return
    with found.feed(data, split(data, seed), seed) as feed:
        yield feed


#: Splits that must be data sets of their own.
_APART = (
    ("train", "test"),
    ("validation", "test"),
    ("calibration", "test"),
    ("train", "validation"),
)


def _refuse_same_object(data: Data) -> None:
    for one, other in _APART:
        if getattr(data, one) is not None and getattr(data, one) is getattr(data, other):
            raise InputError(
                f"Data.{one} and Data.{other} are the same data set",
                where=f"data.factory: Data.{other}",
                do="split it in two parts"
                if other == "test"
                else f"omit {other}: a tenth of train is then taken for it",
            )


def _check_split(name: str, dataset: Any) -> None:
    where = f"data.factory: Data.{name}"
    if len(dataset) == 0:
        raise InputError("the split is empty", where=where)
    sample = dataset[0]
    if isinstance(sample, tuple | list) and len(sample) == 3:
        raise InputError(
            f"a sample has three parts ({described(sample[2])} is the third), expected a pair "
            "(inputs, target)",
            where=where,
            do=WEIGHTS_ADVICE,
        )
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        raise InputError(
            f"a sample is {described(sample)}, expected a pair (inputs, target)", where=where
        )


def batches(
    splits: Splits, dataset: Any, index_batches: Sequence[Sequence[int]]
) -> Iterator[tuple[Any, Any]]:
    """The batches `(inputs, target)` of the given indices, in order."""
    fetcher = Fetcher(dataset, splits.collate, split_name(splits, dataset))
    yield from (fetcher.batch(Wanted(indices)) for indices in index_batches)


def split_name(splits: Splits, dataset: Any) -> str:
    """The name of a split, as the data factory calls it."""
    if isinstance(dataset, Part):
        return "train"
    return next((name for name in SPLITS if getattr(splits, name) is dataset), "train")


@dataclass(frozen=True)
class SampleBatch:
    """Inputs of a few samples, to try a model with.

    Attributes:
        inputs: A tensor (count, ...) or a dictionary of them.
        count: How many samples.
        target: Their targets (count, ...), or a dictionary or tuple of them.
    """

    inputs: Any
    count: int
    target: Any = field(default_factory=lambda: torch.zeros(0))

    @property
    def targets(self) -> float:
        """Numbers in the target of a sample (a count)."""
        numbers = sum(value.numel() for _, value in named_targets(self.target))
        return max(1.0, float(numbers) / self.count)


def few_samples(splits: Splits) -> SampleBatch:
    """A few of the training samples."""
    count = min(4, len(splits.train))
    inputs, target = next(batches(splits, splits.train, [range(count)]))
    return SampleBatch(inputs, count, target)


def batch_indices(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    """Consecutive groups of at most `size` indices."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def stack(splits: Splits, dataset: Any, count: int) -> Arrays:
    """The first samples of a split as one batch of numpy arrays, each `(count, ...)`."""
    indices = range(min(count, len(dataset)))
    return arrays(next(batches(splits, dataset, [indices]))[0])


def fingerprints(dataset: Any) -> set[bytes]:
    """A digest of the inputs of each sample, to tell whether two splits overlap."""
    return look_through("", dataset).digests


@dataclass
class Seen:
    """What looking through a split found.

    Attributes:
        digests: Of the inputs of each sample.
        looked_at: How many samples were looked at.
        not_finite: The first sample that has NaN in an input, and which input; None: there is none.
    """

    digests: set[bytes] = field(default_factory=set)
    looked_at: int = 0
    not_finite: tuple[int, str] | None = None


def look_through(name: str, dataset: Any, seconds: float = float("inf")) -> Seen:
    """Look at the samples of a split.

    Args:
        name: Of the split.
        dataset: The split.
        seconds: After which no further sample is read (s).

    Raises:
        InputError: A sample can't be read, or its target is NaN.
    """
    seen, ends = Seen(), time.monotonic() + seconds
    fetcher = Fetcher(dataset, None, name)
    for index in range(len(dataset)):
        sample = fetcher.sample(index)
        digest = hashlib.sha256()
        for part, value in sorted(named_inputs(sample).items()):
            digest.update(part.encode())
            digest.update(bytes_of(value))
        seen.digests.add(digest.digest())
        seen.looked_at += 1
        for part, value in fields(sample):
            if _has_nan(value):
                if part.startswith("the target"):
                    raise InputError(
                        f"{part} of sample {place_of(dataset, index)} is NaN",
                        where=f"data.factory: Data.{name}",
                        do="remove the sample, or give it a target",
                    )
                seen.not_finite = seen.not_finite or (index, part)
        if time.monotonic() > ends:
            break
    return seen


def bytes_of(value: Any) -> bytes:
    """The content of a part of a sample."""
    try:
        array = np.ascontiguousarray(torch.as_tensor(value).numpy())
    except (TypeError, ValueError, RuntimeError):
        return repr(value).encode()  # a text, say, which a collate of the user's turns into numbers
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()


def _has_nan(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return bool(np.isnan(value).any())
    return isinstance(value, torch.Tensor) and value.is_floating_point() and bool(
        value.isnan().any())  # fmt: skip
