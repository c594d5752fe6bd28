"""Programs of fixed batch sizes as one runner: a batch goes through the largest that fits it.

Runtimes that compile when they load an artifact note in it for which sizes.

Imports numpy only: it runs in a target's own environment too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[dict[str, Any]], Any]
_SIZES = "batch_sizes.json"


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


def note_sizes(folder: Path, sizes: Sequence[int] | None) -> str:
    """Note in an artifact which batch sizes it is compiled for when it is loaded.

    Args:
        folder: The artifact.
        sizes: The sizes; None: any, by one program.

    Returns:
        How the batch axis is, in words.
    """
    if sizes is None:
        return "dynamic"
    chosen = sorted({1, *sizes})
    (folder / _SIZES).write_text(json.dumps(chosen))
    return f"fixed: {chosen}"


def compiled_for_sizes(folder: Path, compiled: Callable[[int | None], Run]) -> Run:
    """A runner of an artifact, for the sizes that are noted in it.

    Args:
        folder: The artifact.
        compiled: Compiles for a batch size, or for any.
    """
    path = folder / _SIZES
    if not path.exists():
        return compiled(None)
    return in_fixed_batches({size: compiled(size) for size in json.loads(path.read_text())})
