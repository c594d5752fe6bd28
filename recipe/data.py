"""What a data factory returns.

A split is a torch dataset of `(inputs, target)`: inputs are a tensor without its batch dimension,
or a dictionary of such tensors (then the model is called with keywords), target is a number or a
tensor. This module imports no torch; `ray_workers/splits.py` does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Data:
    """The splits of a data set, and how to batch them.

    Attributes:
        train: Trains. The defaults of `validation` and `calibration` are slices of it.
        test: Only judges; it never trains, calibrates or selects.
        validation: Chooses the best checkpoint. Default: a seeded tenth of `train`.
        calibration: Gives quantization its ranges. Default: up to 512 seeded samples of what
            `train` keeps.
        collate: From a list of samples to a batch `(inputs, target)`; default: torch's.
        name: Name of the data set, for MLflow.
    """

    train: Any
    test: Any
    validation: Any | None = None
    calibration: Any | None = None
    collate: Callable[[list[Any]], Any] | None = None
    name: str = "data"
