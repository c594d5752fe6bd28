"""Real inputs that later steps need without the user's code, and which of their axes vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from ..data.calling import Arrays, arrays, called, named_outputs, tensors
from ..data.splits import Splits, batches, stack
from ..store.file_names import SAMPLES_FILE
from .axes import Varying, found_axes, write_axes

#: Samples, spread over a split, whose sizes are compared.
_LOOKED_AT = 16
#: Batches at their own sizes that are kept, for each batch size.
_KEPT = 8


@dataclass(frozen=True)
class RealInputs:
    """Inputs of a split.

    Attributes:
        stacked: The first samples as one batch, as the data's collate makes it; (N, ...).
        varying: Axes besides the batch that differ between samples.
        batches: Batches at their own sizes; none if nothing varies.
    """

    stacked: Arrays
    varying: tuple[Varying, ...]
    batches: tuple[Arrays, ...]

    def write(self, folder: Path) -> None:
        kept = {name: value.copy(order="C") for name, value in self.stacked.items()}
        save_file(kept, str(folder / SAMPLES_FILE))
        write_axes(folder, self.varying, self.batches)


def real_inputs(
    splits: Splits,
    dataset: Any,
    count: int,
    sizes: Sequence[int] = (3,),
    declared: Mapping[str, Mapping[int, str]] = {},
) -> RealInputs:
    """Collect inputs of a split.

    Args:
        splits: With the data's collate.
        dataset: The split.
        count: Largest number of samples of the one batch.
        sizes: Batch sizes to keep batches of, at their own sizes.
        declared: `model.dynamic_axes`.

    Raises:
        InputError: A declared input or axis does not exist.
    """
    stacked = stack(splits, dataset, count)
    spread = np.linspace(0, len(dataset) - 1, min(_LOOKED_AT, len(dataset))).astype(int).tolist()
    singles = [arrays(inputs) for inputs, _ in batches(splits, dataset, [[i] for i in spread])]
    varying = found_axes([*singles, stacked], declared)
    if not varying:
        return RealInputs(stacked, (), ())
    groups = []
    for size in dict.fromkeys((1, *sizes)):
        rows = [int(i) for i in np.linspace(0, len(dataset) - 1, size * _KEPT)]
        rows = [rows[k % _KEPT * size + k // _KEPT] for k in range(size * _KEPT)]
        groups += [rows[start : start + size] for start in range(0, len(rows), size)]
    found = [arrays(inputs) for inputs, _ in batches(splits, dataset, groups)]
    return RealInputs(stacked, varying, tuple(found))


def output_shapes(model: torch.nn.Module, inputs: RealInputs) -> dict[str, tuple[str, list[int]]]:
    """The type and shape of each output without its batch axis; -1 where it varies.

    Args:
        model: In evaluation mode.
        inputs: Real ones.
    """
    found: dict[str, tuple[str, list[int]]] = {}
    few = {name: value[:2] for name, value in inputs.stacked.items()}
    for batch in (few, *inputs.batches[:4]):
        with torch.no_grad():
            outputs = named_outputs(called(model, tensors(batch)))
        for name, value in outputs.items():
            kind = "float32" if value.is_floating_point() else str(value.dtype).partition(".")[2]
            shape = list(value.shape[1:])
            _, known = found.get(name, (kind, shape))
            same = [a if a == b else -1 for a, b in zip(known, shape, strict=False)]
            found[name] = (kind, same)
    return found
