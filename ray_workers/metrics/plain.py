"""A metric that is a plain function of all outputs and targets.

Its statistics are the outputs and targets themselves, so a resample is judged by the function. Each
row says its own shapes, so that rows can be kept, joined and read anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...recipe.errors import InputError
from ...recipe.factories import raised
from .positions import Array

Function = Callable[[Array, Array], Any]
#: Numbers before the values: of outputs and of targets the count of axes, and whether the targets
#: are integers.
_HEAD = 3


class PlainMetric:
    """A function that takes outputs (N, ...) and targets (N, ...) as numpy arrays.

    It returns the metric's value, or one for each sample, which are averaged.

    Args:
        where: What an error names.
        function: The function.
    """

    def __init__(self, where: str, function: Function) -> None:
        self._where = where
        self._function = function

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        """Outputs and targets, with their shapes (N, k), float64."""
        shapes = (outputs.shape[1:], targets.shape[1:])
        whole = float(np.issubdtype(targets.dtype, np.integer))
        head = [*map(float, map(len, shapes)), whole, *map(float, (*shapes[0], *shapes[1]))]
        count = len(outputs)
        parts = [np.tile(head, (count, 1)), outputs.reshape(count, -1), targets.reshape(count, -1)]
        return np.concatenate(parts, axis=1, dtype=np.float64)

    def aggregate(self, statistics: Array, /) -> float:
        """Its value.

        Raises:
            InputError: The function raised, or did not return a number; or samples differ in size.
        """
        outputs, targets = self._unpacked(statistics)
        try:
            value = np.asarray(self._function(outputs, targets), dtype=np.float64)
        except Exception as error:
            raise raised("the metric", error, self._where) from error
        if value.shape not in ((), (len(outputs),)):
            raise InputError(
                f"the metric gave an array of shape {value.shape} for {len(outputs)} samples, "
                f"expected a number, or one for each sample",
                where=self._where,
            )
        return float(value.mean())

    def _unpacked(self, statistics: Array) -> tuple[Array, Array]:
        first = statistics[0]
        axes, others = int(first[0]), int(first[1])
        end = _HEAD + axes + others
        if np.isnan(statistics).any() or (statistics[:, :end] != first[:end]).any():
            raise InputError(
                "the samples differ in size, or an output or target is NaN, and a plain function "
                "gets all of them as one array",
                where=self._where,
                do="give an object with per_sample(outputs, targets) and aggregate(statistics)",
            )
        shape = tuple(map(int, first[_HEAD : _HEAD + axes]))
        other = tuple(map(int, first[_HEAD + axes : end]))
        middle = end + int(np.prod(shape))
        outputs = statistics[:, end:middle].reshape(-1, *shape).astype(np.float32)
        targets = statistics[:, middle:].reshape(-1, *other)
        return outputs, targets.astype(np.int64 if first[2] else np.float32)
