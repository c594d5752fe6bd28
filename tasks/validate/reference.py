"""Reference: the quality of the trained model itself, in PyTorch, on the test split."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.numpy import save_file

from ...ray_workers.data.asking import data_of
from ...ray_workers.data.calling import returned_by
from ...ray_workers.data.groups import groupings, write_groupings
from ...ray_workers.data.splits import batch_indices, batches, split
from ...ray_workers.metrics import stacked
from ...ray_workers.metrics.judgement import Judgement
from ...ray_workers.model.module import load_module
from ...ray_workers.store.file_names import STATISTICS
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import InputError
from ...recipe.strict import short_name
from ..specs.validate import ReferenceSpec
from .interval import quality_interval, with_bounds

BATCH = 64


def reference(work: Workspace[ReferenceSpec]) -> Result:
    """Evaluate the trained model. Input: `weights`. Outputs: `statistics`, one row per sample;
    `groups` of the samples.

    Raises:
        InputError: The metric has no value on the test split, or samples can't be grouped.
    """
    spec = work.spec
    splits = split(
        data_of(work, spec.data),
        spec.seed,
    )
    model = load_module(spec.model, work.allowed, work.inputs["weights"])
    measure = Judgement(spec, work.allowed)
    groups = batch_indices(range(len(splits.test)), BATCH)
    rows = []
    with torch.inference_mode():
        for inputs, target in batches(splits, splits.test, groups):
            rows.append(measure.per_sample(returned_by(model, inputs), target))
    statistics = stacked(rows)
    found = quality_interval(statistics, measure.aggregate)
    if not np.isfinite(found[0]):
        raise InputError(
            f"the metric '{short_name(spec.metric)}' of the trained model is {found[0]} on the "
            f"test split (samples: {len(statistics)})",
            where="quality.metric",
            do="see whether the test split has each class and more than one sample, or choose "
            "another metric",
        )
    folder = work.output("statistics", "statistics")
    save_file({"statistics": statistics}, str(folder / STATISTICS))
    grouped = groupings(splits, spec.groups, work.allowed, spec.data.target)
    write_groupings(work.output("groups", "groups"), grouped)
    name = f"quality/{short_name(spec.metric)}"
    notes = [told for one in grouped if (told := one.told())]
    return Result(metrics=with_bounds(name, found), notes=notes)
