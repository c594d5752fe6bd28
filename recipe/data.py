"""What a data factory returns.

A split is a torch dataset of `(inputs, target)`: inputs are a tensor without its batch dimension,
or a dictionary of such tensors (then the model is called with keywords), target is a number or a
tensor, or a dictionary or tuple of those. Or it is a Ray dataset whose columns `inputs` and
`target` name: then train streams to the workers and may be larger than memory. Any other kind needs
a `format`. This module does not import torch; `ray_workers/data/` does the work, one file per
format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Data:
    """The splits of a data set, and how to batch them.

    Attributes:
        train: Used for training. The defaults of `validation` and `calibration` are slices of it.
            None in a recipe that does not train; then `calibration` is required, and is also the
            default of `validation`.
        test: Used for the final evaluation only, never to train, calibrate or select.
        validation: Used to select the best checkpoint. Default: a seeded tenth of `train`.
        calibration: Used to compute quantization ranges. Default: up to 512 seeded samples of what
            remains of `train`.
        collate: From a list of samples to a batch `(inputs, target)`; default: torch's.
        name: Name of the data set, for MLflow.
        inputs: Of data with columns, such as Ray datasets: the column that is the model's input, or
            the columns that it is called with by keyword.
        target: Of data with columns: the column of the target, or the columns of several.
        shuffle_rows: Of a Ray dataset as train: size of each worker's shuffle window (rows); the
            order of the blocks is shuffled for each epoch as well.
        format: A `prefect_hone.SplitFormat` that reads splits of your own kind; torch and Ray
            datasets need none.
        text: From a sample's inputs to the text that a report shows of it, for inputs that are no
            images: tokens to words, say.
        groups: For `quality.groups`: by name, the group of each sample of the test split, None
            where it has none; or of data with columns the names of the columns that say it.
    """

    train: Any | None
    test: Any
    validation: Any | None = None
    calibration: Any | None = None
    collate: Callable[[list[Any]], Any] | None = None
    name: str = "data"
    inputs: str | tuple[str, ...] = "inputs"
    target: str | tuple[str, ...] = "target"
    shuffle_rows: int = 4096
    format: Any | None = None
    text: Callable[[Any], str] | None = None
    groups: Mapping[str, Sequence[Any]] | Sequence[str] = ()
