"""Samples of the test split that proofs look at more closely, and the input that they change."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ray_workers.data.asking import data_of
from ...ray_workers.data.calling import Arrays, arrays
from ...ray_workers.data.input_kinds import ChangedInput, find_input
from ...ray_workers.data.splits import Splits, batches, split
from ...ray_workers.workspace import Workspace
from ...recipe.errors import InputError
from ...recipe.proofs import Proofs
from ..specs.base import Judged

Array = np.ndarray[Any, Any]
#: Samples that say how the data spread.
_KNOWN = 64


def evenly(count: int, most: int) -> list[int]:
    """Indices of at most so many of `count` samples, evenly chosen."""
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]


def splits_of(work: Workspace[Any]) -> Splits:
    """The data of a step that judges."""
    spec: Judged = work.spec
    return split(data_of(work, spec.data), spec.seed)


def known_samples(splits: Splits) -> Arrays:
    """A few samples of the test split, evenly chosen: each input (N, ...)."""
    few = evenly(len(splits.test), _KNOWN)
    return arrays(next(batches(splits, splits.test, [few]))[0])


def input_to_change(known: Arrays, proofs: Proofs) -> ChangedInput | str:
    """The input that is changed; or why there is none, which the check refused if it was asked."""
    try:
        found = find_input(known, proofs)
    except InputError as error:
        return error.what
    if found.kind == "features" and len(known[found.name]) < 2:
        return "a single test sample does not say how features spread"
    return found
