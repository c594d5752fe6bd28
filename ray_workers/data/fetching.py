"""Reads samples of a split by index and batches them, in whichever process that is done.

What goes wrong names the sample: split, index and field.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from ...recipe.errors import HoneError, InputError
from ...recipe.factories import raised
from .calling import INPUT, flat_inputs, leaves
from .targets import TARGET, as_targets, named_targets


@dataclass(frozen=True)
class Wanted:
    """A batch to read.

    Attributes:
        indices: Of its samples.
        seed: For whatever is random in reading them: torch's, Python's and numpy's generators are
            set to it, so that the batch is the same in any process. None leaves them alone.
    """

    indices: Sequence[int]
    seed: int | None = None


#: What to do with weights of samples.
WEIGHTS_ADVICE = (
    "weights of samples are no part of the data: make the target a dictionary that has the weight, "
    "and name a loss and a metric of your own that read it"
)


class Part(Subset[Any]):
    """The part of the user's train split that became a split of its own."""


class Fetcher:
    """Makes batches `(inputs, target)` of a split.

    Args:
        dataset: The split.
        collate: From a list of samples to a batch.
        name: Of the split (`train`).
    """

    def __init__(self, dataset: Any, collate: Any, name: str) -> None:
        self._dataset = dataset
        self._collate = collate
        self._name = name
        self._where = f"data.factory: Data.{name}"

    def batch(self, wanted: Wanted) -> tuple[Any, Any]:
        """Read a batch.

        Raises:
            InputError: A sample can't be read or batched; with its index and field.
        """
        if wanted.seed is not None:
            torch.default_generator.manual_seed(wanted.seed)  # a hundredth of manual_seed's time
            random.seed(wanted.seed)
            np.random.seed(wanted.seed % 2**32)
        indices = wanted.indices
        samples = self._samples(indices)
        try:
            batch = self._collate(samples)
            if isinstance(batch, tuple | list) and len(batch) == 3:
                raise InputError(
                    "collate returned three parts, expected a pair (inputs, target)",
                    where="data.factory: Data.collate",
                    do=WEIGHTS_ADVICE,
                )
            inputs, target = batch
            target = as_targets(target)
        except HoneError:
            raise
        except Exception as error:
            self._refuse_other_than_numbers(samples, indices)
            raise raised(
                f"batching {len(indices)} samples of {self._name}",
                error,
                "data.factory: Data.collate",
            ) from error
        self._check_sizes(inputs, target, samples, indices)
        return inputs, target

    def _samples(self, indices: Sequence[int]) -> list[Any]:
        together = getattr(self._dataset, "__getitems__", None)
        if callable(together):
            try:
                return list(together(list(indices)))
            except Exception:  # noqa: S110 (once more, one by one, to know which sample it is)
                pass
        return [self.sample(index) for index in indices]

    def sample(self, index: int) -> Any:
        """Read one sample.

        Raises:
            InputError: It can't be read; with its index.
        """
        try:
            return self._dataset[index]
        except HoneError:
            raise
        except IndexError as error:
            whole = self._dataset.dataset if isinstance(self._dataset, Part) else self._dataset
            count, index = len(whole), place_of(self._dataset, index)
            if index < count:
                raise raised(f"sample {index} of {count}", error, self._where) from error
            raise InputError(
                f"sample {index} is gone: the split has {count} samples now",
                where=self._where,
                do="let the data set keep its length",
            ) from error
        except Exception as error:
            raise raised(
                f"reading sample {place_of(self._dataset, index)}", error, self._where
            ) from error

    def _check_sizes(
        self, inputs: Any, target: Any, samples: list[Any], indices: Sequence[int]
    ) -> None:
        parts = {_of_target(name): value for name, value in named_targets(target)}
        for name, value in flat_inputs(inputs):
            parts["the inputs" if name == INPUT else f"the input '{name}'"] = value
        for part, value in parts.items():
            if isinstance(value, torch.Tensor) and value.shape[:1] == (len(indices),):
                continue
            self._refuse_other_than_numbers(samples, indices)
            found = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else (
                f"a {type(value).__name__}")  # fmt: skip
            raise InputError(
                f"a batch of {len(indices)} samples of {self._name} has {found} for {part}: the "
                f"first axis must be the {len(indices)} samples",
                where="data.factory: Data.collate",
                do="let collate return (inputs, target) with one row for each sample",
            )

    def _refuse_other_than_numbers(self, samples: list[Any], indices: Sequence[int]) -> None:
        for index, sample in zip(indices, samples, strict=False):
            for field, value in fields(sample):
                if value is None or isinstance(value, str | bytes):
                    shown = repr(value) if len(repr(value)) < 40 else f"{repr(value)[:36]}...'"
                    raise InputError(
                        f"sample {place_of(self._dataset, index)} has {shown} as {field}, "
                        "expected a number or a tensor",
                        where=self._where,
                        do="turn it into numbers in the data set, or in Data.collate",
                    )


def place_of(dataset: Any, index: int) -> int:
    """A sample's index in the user's own split."""
    return int(dataset.indices[index]) if isinstance(dataset, Part) else index


def fields(sample: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a sample, each with what an error calls it."""
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        return
    for name, value in named_inputs(sample).items():
        yield "the input" if name == INPUT else f"the input '{name}'", value
    for name, value in leaves(sample[1], TARGET):
        yield _of_target(name), value


def _of_target(name: str) -> str:
    """What an error calls a target."""
    return "the target" if name == TARGET else f"the target '{name}'"


def named_inputs(sample: Any) -> dict[str, Any]:
    """A sample's inputs by the name of their place."""
    return dict(leaves(sample[0], INPUT))
