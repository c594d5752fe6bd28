"""Compare: how much worse each candidate is than today's champion, on the same test samples."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load_file

from ...ray_workers.metrics import metric as load_metric
from ...ray_workers.store.file_names import STATISTICS
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ..specs.benchmark import CHAMPION
from ..specs.validate import CompareFacts, CompareSpec
from .interval import Array, drop_interval, with_bounds


def compare(work: Workspace[CompareSpec]) -> Result:
    """Compare candidates with today's champion.

    Inputs: statistics, one row per test sample: `champion`, and each candidate's under its name.

    Raises:
        StepFailed: They are not of the same samples.
    """
    spec = work.spec
    measure = load_metric(spec.metric, work.allowed)
    statistics = {
        name: load_file(str(folder / STATISTICS))["statistics"]
        for name, folder in work.inputs.items()
    }
    champion = statistics.pop(CHAMPION)
    drops = {}
    for name, rows in statistics.items():
        _require_same_samples(champion, rows)
        bounded = drop_interval(champion, rows, measure.aggregate, spec.higher_is_better)
        drops[name] = with_bounds("quality/drop_from_champion", bounded)
    return Result(facts=CompareFacts(drops=drops))


def _require_same_samples(champion: Array, rows: Array) -> None:
    if np.shape(champion) != np.shape(rows):
        raise StepFailed(
            f"the champion was judged on {len(champion)} samples and a candidate on {len(rows)}",
            where="data.factory",
            do="see whether the data factory returns the same test split each time",
        )
