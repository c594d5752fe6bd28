"""Programs of fixed batch sizes as one function: a batch goes through the largest that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .predict import Array, Arrays, Outputs, Predict


def in_fixed_batches(programs: dict[int, Predict]) -> Predict:
    """One function for any batch size.

    Args:
        programs: A function for each batch size that was compiled.
    """
    sizes = sorted(programs, reverse=True)

    def predict(inputs: Arrays) -> Outputs:
        count = len(next(iter(inputs.values())))
        if count in programs:
            return programs[count](inputs)
        parts: list[Outputs] = []
        done = 0
        while done < count:
            left = count - done
            size = next((s for s in sizes if s <= left), sizes[-1])
            part = {name: value[done : done + size] for name, value in inputs.items()}
            if left < size:  # filled up with the last sample
                part = {
                    name: np.concatenate([v, np.repeat(v[-1:], size - len(v), axis=0)])
                    for name, v in part.items()
                }
            parts.append(_rows(programs[size](part), left))
            done += size
        return _joined(parts)

    return predict


def _rows(outputs: Outputs, count: int) -> Outputs:
    if isinstance(outputs, dict):
        return {name: np.asarray(value)[:count] for name, value in outputs.items()}
    return np.asarray(outputs)[:count]


def _joined(parts: Sequence[Outputs]) -> Outputs:
    first = parts[0]
    if not isinstance(first, dict):
        return np.concatenate([part for part in parts if not isinstance(part, dict)])
    found: dict[str, list[Array]] = {name: [] for name in first}
    for part in parts:
        for name, value in part.items() if isinstance(part, dict) else ():
            found[name].append(value)
    return {name: np.concatenate(values) for name, values in found.items()}


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
