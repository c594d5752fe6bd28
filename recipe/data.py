"""What a data factory returns.

A split is a torch dataset of `(inputs, target)`: inputs are a tensor without its batch dimension,
or a dictionary of such tensors (then the model is called with keywords), target is a number or a
tensor. Or it is a Ray dataset, of which `inputs` and `target` name the columns: then train streams
to the workers and may be larger than memory. Another kind comes with its `format`. This module
imports no torch; `ray_workers/data/` does the work, a file a format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Data:
    """The splits of a data set, and how to batch them.

    Attributes:
        train: Trains. The defaults of `validation` and `calibration` are slices of it. None in a
            recipe that does not train; then `calibration` is given, and validates too by default.
        test: Only judges; it never trains, calibrates or selects.
        validation: Chooses the best checkpoint. Default: a seeded tenth of `train`.
        calibration: Gives quantization its ranges. Default: up to 512 seeded samples of what
            `train` keeps.
        collate: From a list of samples to a batch `(inputs, target)`; default: torch's.
        name: Name of the data set, for MLflow.
        inputs: Of data with columns, such as Ray datasets: the column that is the model's input, or
            the columns that it is called with by keyword.
        target: Of data with columns: the column of the target.
        shuffle_rows: Of a Ray dataset as train: rows that each worker draws from at a time, beside
            the order of the blocks, which is drawn for each epoch (a count).
        format: How splits of a kind of your own are read, a `prefect_hone.SplitFormat`; torch and
            Ray datasets need none.
    """

    train: Any | None
    test: Any
    validation: Any | None = None
    calibration: Any | None = None
    collate: Callable[[list[Any]], Any] | None = None
    name: str = "data"
    inputs: str | tuple[str, ...] = "inputs"
    target: str = "target"
    shuffle_rows: int = 4096
    format: Any | None = None
