"""Programs of fixed batch sizes as one runner: a batch goes through the largest that fits it.

Imports numpy only: it runs in a target's own environment too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[dict[str, Any]], Any]


def in_fixed_batches(programs: dict[int, Run]) -> Run:
    """A runner for any batch size.

    Args:
        programs: A runner for each batch size that was compiled.
    """
    sizes = sorted(programs, reverse=True)

    def run(inputs: dict[str, Any]) -> Any:
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

    return run
