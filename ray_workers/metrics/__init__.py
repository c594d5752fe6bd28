"""Measures of quality: a file each.

A metric file has two functions. `per_sample(outputs, targets)` gives statistics of shape (N, k),
one row a sample; `aggregate(statistics)` makes one number of them. So workers can measure parts,
and an interval comes from resampling the rows, whatever the metric. Which way is better stands in
`recipe/measures.py`.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

import numpy as np

Array = np.ndarray[Any, Any]


class MetricFunctions(Protocol):
    """What a metric file holds."""

    def per_sample(self, outputs: Array, targets: Array) -> Array:
        """Statistics (N, k) of outputs (N, ...) and targets (N, ...)."""

    def aggregate(self, statistics: Array) -> float:
        """The metric's value from statistics (N, k)."""


def metric(name: str) -> MetricFunctions:
    """The functions of a metric of the catalogue."""
    return cast(MetricFunctions, importlib.import_module(f".{name}", __name__))
