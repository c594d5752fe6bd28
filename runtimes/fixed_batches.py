"""Programs of fixed batch sizes as one function: a batch goes through the largest that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .predict import Array, Arrays, Predict


def in_fixed_batches(programs: dict[int, Predict]) -> Predict:
    """One function for any batch size.

    Args:
        programs: A function for each batch size that was compiled.
    """
    sizes = sorted(programs, reverse=True)

    def predict(inputs: Arrays) -> Array:
        count = len(next(iter(inputs.values())))
        if count in programs:
            return programs[count](inputs)
        outputs, done = [], 0
        while done < count:
            left = count - done
            size = next((s for s in sizes if s <= left), sizes[-1])
            part = {name: value[done : done + size] for name, value in inputs.items()}
            if left < size:  # filled up with the last sample
                part = {
                    name: np.concatenate([v, np.repeat(v[-1:], size - len(v), axis=0)])
                    for name, v in part.items()
                }
            outputs.append(np.asarray(programs[size](part))[:left])
            done += size
        return np.concatenate(outputs)

    return predict


def for_batch_sizes(
    sizes: Sequence[int] | None, compiled: Callable[[int | None], Predict]
) -> Predict:
    """One function for any batch size, of an artifact that is compiled when it is loaded.

    Args:
        sizes: Those that it is compiled for; None: any, by one program.
        compiled: Compiles for a batch size, or for any.
    """
    if sizes is None:
        return compiled(None)
    return in_fixed_batches({size: compiled(size) for size in sizes})
