"""Metrics: measures of quality, one file each.

A metric has two functions. `per_sample(outputs, targets)` returns statistics of shape (N, k), one
row per sample; `aggregate(statistics)` reduces them to one number. Hone's metrics look at one
output and one target; the user's own get all targets, and with `quality.outputs: all` all outputs.
So workers can evaluate parts, and resampling the rows gives a confidence interval for any metric.
The direction is in `recipe/measures.py`, or in the recipe for the user's own metric.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...recipe.errors import InputError
from ...recipe.factories import Allowed, raised
from ...recipe.metrics import METRICS
from .plain import PlainMetric

Array = np.ndarray[Any, Any]

_WHERE = "quality.metric"
_FUNCTIONS = ("per_sample", "aggregate")


class MetricFunctions(Protocol):
    """The functions of a metric: a module of Hone, or the user's module, class or object."""

    def per_sample(self, outputs: Any, targets: Any) -> Array:
        """Statistics (N, k) of outputs (N, ...) and targets (N, ...)."""

    def aggregate(self, statistics: Array, /) -> float:
        """The metric's value from statistics (N, k)."""


def metric(name: str, allowed: Allowed | None = None) -> MetricFunctions:
    """The functions of a metric.

    Args:
        name: A name in `METRICS`, or an import path `module:name`: a plain function of outputs and
            targets, or an object with the two functions; a class is instantiated without arguments.
        allowed: What may be named by import path.

    Raises:
        InputError: The import path can't be found, or lacks a function.
    """
    if ":" not in name:
        return _named(name)
    found = (allowed or Allowed()).find(name, _WHERE)
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise raised("the metric", error, f"{_WHERE}: {name}") from error
    if inspect.isroutine(found):
        return PlainMetric(f"{_WHERE}: {name}", found)
    for function in _FUNCTIONS:
        if not callable(getattr(found, function, None)):
            raise InputError(
                f"the metric has no function '{function}'",
                where=f"{_WHERE}: {name}",
                do="give it per_sample(outputs, targets) -> statistics (N, k), and "
                "aggregate(statistics) -> a number; or name a function (outputs, targets) -> a "
                "number",
            )
    return OwnMetric(name, found)


def _named(name: str) -> NamedMetric:
    line = METRICS[name]
    module = importlib.import_module(f".{line.file or name}", __name__)
    return NamedMetric(name, module if line.option is None else module.variant(line.option))


def stacked(parts: Sequence[Array]) -> Array:
    """Statistics of parts of a split as those of the whole, (N, k).

    Rows of one number for each of something (true boxes, say) may be longer in one part: then NaN
    is put behind the shorter ones.
    """
    width = max(part.shape[1] for part in parts)
    filled = [
        part
        if part.shape[1] == width
        else np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=np.nan)
        for part in parts
    ]
    return np.concatenate(filled)


class NamedMetric:
    """A metric of Hone, which explains what it can't judge.

    Args:
        name: Its name.
        functions: Its module.
    """

    def __init__(self, name: str, functions: Any) -> None:
        self._name = name
        self._functions = functions

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        """Its statistics.

        Raises:
            InputError: Outputs and targets don't fit each other, or the metric.
        """
        try:
            rows: Array = self._functions.per_sample(outputs, targets)
        except (ValueError, IndexError, TypeError) as error:
            raise InputError(
                f"the metric '{self._name}' can't judge the model's output {outputs.shape} against "
                f"targets {targets.shape}: {error}",
                where=_WHERE,
                do="choose a metric that fits the model's output and the targets",
            ) from error
        return rows

    @property
    def aggregate(self) -> Callable[[Array], float]:
        """From statistics to its value."""
        found: Callable[[Array], float] = self._functions.aggregate
        return found


class OwnMetric:
    """The user's own metric, whose results are checked.

    Args:
        name: Its import path.
        functions: Its functions.
    """

    def __init__(self, name: str, functions: MetricFunctions) -> None:
        self._where = f"{_WHERE}: {name}"
        self._functions = functions

    def per_sample(self, outputs: Any, targets: Any) -> Array:
        """Its statistics, as float64.

        Raises:
            InputError: It raised, or did not return one row per sample.
        """
        try:
            rows = np.asarray(self._functions.per_sample(outputs, targets), dtype=np.float64)
        except Exception as error:
            raise raised("per_sample", error, self._where) from error
        some = next(iter(outputs.values())) if isinstance(outputs, Mapping) else outputs
        if rows.ndim != 2 or len(rows) != len(some):
            raise InputError(
                f"per_sample gave an array of shape {rows.shape} for {len(some)} samples, "
                f"expected ({len(some)}, k): a row of numbers for each sample",
                where=self._where,
            )
        return np.ascontiguousarray(rows)

    def aggregate(self, statistics: Array) -> float:
        """Its value.

        Raises:
            InputError: It raised, or did not return a number.
        """
        try:
            return float(self._functions.aggregate(statistics))
        except Exception as error:
            raise raised("aggregate", error, self._where) from error
