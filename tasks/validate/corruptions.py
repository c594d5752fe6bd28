"""Corruptions of inputs at three strengths, the same for every model, seeded by sample.

Kinds and strengths of images follow ImageNet-C and CIFAR-C (Hendrycks and Dietterich,
https://arxiv.org/abs/1903.12261), relative to the range of the data and the size of the image.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ...ray_workers.data.calling import Arrays
from ...ray_workers.data.input_kinds import ChangedInput

Array = np.ndarray[Any, Any]

STRENGTHS = (1, 2, 3)
#: Images with a smaller side than this (pixels) are blurred as these: less would be nothing.
_SMALLEST = 32
#: Of each kind of input its corruptions, each with how much there is of it at each strength.
AMOUNTS: dict[str, dict[str, tuple[float, float, float]]] = {
    "images": {
        "noise": (0.08, 0.18, 0.38),  # standard deviation, share of the data's range
        "blur": (0.0125, 0.022, 0.031),  # standard deviation, share of the smaller side
        "contrast": (0.5, 0.3, 0.15),  # what is left of the distance from the image's mean
    },
    "tokens": {
        "drop": (0.05, 0.15, 0.3),  # share of the tokens
        "replace": (0.05, 0.15, 0.3),
    },
    "features": {
        "noise": (0.1, 0.25, 0.5),  # standard deviation, share of the feature's own
    },
}


@dataclass(frozen=True)
class Corruption:
    """A corruption at a strength."""

    name: str
    strength: int

    def __str__(self) -> str:
        return f"{self.name}-{self.strength}"


def corruptions_of(changed: ChangedInput) -> list[Corruption]:
    """All corruptions of an input, each at every strength."""
    return [Corruption(name, s) for name in AMOUNTS[changed.kind] for s in STRENGTHS]


class _Seeds:
    """A generator for each sample of a batch, made when it is used: blur and contrast need none.

    Args:
        indices: Of the samples in the split.
        name: Of the corruption.
    """

    def __init__(self, indices: Sequence[int], name: str) -> None:
        self._indices, self._name = indices, zlib.crc32(name.encode())

    def __iter__(self) -> Iterator[np.random.Generator]:
        return (np.random.default_rng((index, self._name)) for index in self._indices)

    def noise(self, shape: tuple[int, ...]) -> Array:
        """Normal noise for samples of a shape (N, ...)."""
        return np.stack([seed.normal(size=shape) for seed in self])


class Corrupter:
    """Corrupts batches.

    Args:
        changed: The input that is corrupted.
        known: A few samples that say how the data spread, the same for every model.
    """

    def __init__(self, changed: ChangedInput, known: Arrays) -> None:
        self._changed = changed
        values = known[changed.name]
        self._type = values.dtype
        self._pool = (
            np.unique(values[changed.counting(known)]) if changed.kind == "tokens" else None
        )
        if changed.kind != "tokens":
            floats = values.astype(np.float64)
            self._low, self._high = float(floats.min()), float(floats.max())
            self._deviation = floats.std(axis=0)

    def __call__(self, inputs: Arrays, indices: Sequence[int], how: Corruption) -> Arrays:
        """A batch with its input corrupted; the others stay as they are.

        Args:
            inputs: The batch, each (N, ...).
            indices: Of its samples in the split: each has its own seed.
            how: The corruption.
        """
        changed = self._changed
        values = inputs[changed.name]
        amount = AMOUNTS[changed.kind][how.name][how.strength - 1]
        seeds = _Seeds(indices, how.name)
        if changed.kind == "tokens":
            found = self._tokens(values, changed.counting(inputs), how.name, amount, seeds)
        elif changed.kind == "features":
            found = values + amount * self._spread(values) * seeds.noise(values.shape[1:])
        else:
            found = self._images(values.astype(np.float64), how.name, amount, seeds)
        return {**inputs, changed.name: self._typed(found)}

    def _spread(self, values: Array) -> Array | float:
        """The deviation of each feature; of all, where samples differ in length."""
        same = values.shape[1:] == self._deviation.shape
        return self._deviation if same else float(self._deviation.mean())

    def _typed(self, found: Array) -> Array:
        if np.issubdtype(self._type, np.integer) and found.dtype.kind == "f":
            found = np.rint(found)
        return np.ascontiguousarray(found.astype(self._type))

    def _images(self, values: Array, name: str, amount: float, seeds: _Seeds) -> Array:
        across = (1, 2) if self._changed.channels_last else (2, 3)
        if name == "blur":
            deviation = amount * max(_SMALLEST, min(values.shape[axis] for axis in across))
            for axis in across:
                values = gaussian_filter1d(values, deviation, axis=axis, mode="nearest")
            return values
        if name == "contrast":
            mean = values.mean(axis=across, keepdims=True)
            return np.asarray(mean + amount * (values - mean))
        wide = amount * (self._high - self._low)
        return np.clip(values + wide * seeds.noise(values.shape[1:]), self._low, self._high)

    def _tokens(
        self,
        values: Array,
        counts: Array,
        name: str,
        share: float,
        seeds: _Seeds,
    ) -> Array:
        """Each sample with a share of its tokens dropped, or replaced by others that occur.

        A stronger corruption changes the tokens of a weaker one, and further ones.
        """
        pool = self._pool
        found = values.copy()
        for row, counting, seed in zip(found, counts, seeds, strict=True):
            places = seed.permutation(np.flatnonzero(counting))
            others = seed.integers(0, max(1, 0 if pool is None else len(pool)), len(places))
            some = round(share * len(places)) or min(1, len(places))
            if name == "drop" or pool is None or not len(pool):
                row[places[:some]] = self._changed.padding
            else:
                row[places[:some]] = pool[others[:some]]
        return found
