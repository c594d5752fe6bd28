"""A metric that is a plain function of all outputs and targets.

Its statistics are the outputs and targets themselves, so a resample is judged by the function. Each
row says its own form, so that rows can be kept, joined and read anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...recipe.errors import InputError
from ...recipe.factories import raised
from .positions import Array

Function = Callable[[Any, Any], Any]
#: Bytes of a row's form that one number holds exactly.
_BYTES = 6


class PlainMetric:
    """A function that takes outputs and targets as numpy arrays (N, ...), or dictionaries of them.

    It returns the metric's value, or one for each sample, which are averaged.

    Args:
        where: What an error names.
        function: The function.
    """

    def __init__(self, where: str, function: Function) -> None:
        self._where = where
        self._function = function

    def per_sample(self, outputs: Any, targets: Any) -> Array:
        """Outputs and targets, with their form (N, k), float64."""
        values: list[Array] = []
        form = json.dumps([_form(outputs, values), _form(targets, values)], separators=(",", ":"))
        count = len(values[0])
        head = np.tile(_as_numbers(form), (count, 1))
        parts = [head, *(value.reshape(count, -1) for value in values)]
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
        if value.shape not in ((), (len(statistics),)):
            raise InputError(
                f"the metric gave an array of shape {value.shape} for {len(statistics)} samples, "
                f"expected a number, or one for each sample",
                where=self._where,
            )
        return float(value.mean())

    def _unpacked(self, statistics: Array) -> tuple[Any, Any]:
        first = statistics[0]
        end = 1 + int(first[0])
        if np.isnan(statistics).any() or (statistics[:, :end] != first[:end]).any():
            raise InputError(
                "the samples differ in size, or an output or target is NaN, and a plain function "
                "gets all of them as one array",
                where=self._where,
                do="give an object with per_sample(outputs, targets) and aggregate(statistics)",
            )
        outputs, targets = json.loads(_as_text(first[1:end]))
        columns = _Columns(statistics[:, end:])
        return columns.of(outputs), columns.of(targets)


class _Columns:
    """Takes arrays out of rows, one after the other.

    Args:
        rows: Numbers (N, k).
    """

    def __init__(self, rows: Array) -> None:
        self._rows = rows
        self._next = 0

    def of(self, form: Any) -> Any:
        """What has this form."""
        if isinstance(form, dict):
            return {name: self.of(inner) for name, inner in form.items()}
        if isinstance(form, list) and form[0] == "several":
            return tuple(map(self.of, form[1]))
        if form is None:
            return None
        shape, kind = form
        start, self._next = self._next, self._next + int(np.prod(shape))
        value = self._rows[:, start : self._next].reshape(-1, *shape)
        return value.astype(np.float32 if kind == "f" else bool if kind == "b" else np.int64)


def _form(value: Any, values: list[Array]) -> Any:
    """The form of outputs or targets; their arrays are added to a list in its order."""
    if isinstance(value, Mapping):
        return {name: _form(inner, values) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return ["several", [_form(inner, values) for inner in value]]
    if value is None:
        return None
    array = np.asarray(value)
    values.append(array)
    return [list(array.shape[1:]), array.dtype.kind if array.dtype.kind in "fb" else "i"]


def _as_numbers(text: str) -> Array:
    """A text as numbers, their count first."""
    data = text.encode()
    parts = [data[i : i + _BYTES] for i in range(0, len(data), _BYTES)]
    return np.array([len(parts), *(int.from_bytes(b"\1" + part) for part in parts)], np.float64)


def _as_text(numbers: Array) -> str:
    """The inverse of `_as_numbers`, without the count."""
    wholes = (int(number) for number in numbers)
    return b"".join(n.to_bytes((n.bit_length() + 7) // 8)[1:] for n in wholes).decode()
