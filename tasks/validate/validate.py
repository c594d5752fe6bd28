"""Validate one candidate, through the runtime that would serve it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from ...ray_workers.data.calling import arrays, call_model
from ...ray_workers.data.splits import batch_indices, batches, split
from ...ray_workers.metrics import metric as load_metric
from ...ray_workers.model.module import load_module
from ...ray_workers.runtime_process import RuntimeProcess, interpreter_for
from ...ray_workers.store.file_names import STATISTICS
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ...recipe.strict import short_name
from ...runtimes.predict import Arrays
from ..specs.validate import ValidateSpec
from .groups import Array, group_quality
from .interval import bootstrap, quality_interval
from .parity import parity
from .proof import write_proofs
from .reference import BATCH

#: Samples of the test split whose outputs are compared with the trained model's.
_PARITY_SAMPLES = 256


def validate(work: Workspace[ValidateSpec]) -> Result:
    """Evaluate a candidate.

    Inputs: `weights`, `model` (the candidate), `statistics` (of the reference). Outputs: `proof`.

    Raises:
        StepFailed: The candidate's outputs have another shape, or are not finite.
        StepCrashed: Its runtime died.
    """
    spec = work.spec
    splits = split(
        work.allowed.call(spec.data.factory, spec.data.args, "data.factory"),
        spec.seed,
    )
    trained = load_module(spec.model, work.allowed, work.inputs["weights"])
    measure = load_metric(spec.metric, work.allowed)
    groups = batch_indices(range(len(splits.test)), BATCH)
    rows, expected, found = [], [], []
    threads = max(1, int(work.cpus))
    options = work.loader_options(threads, spec.options)
    real: Arrays = {}
    python = interpreter_for(spec.environment)
    with RuntimeProcess(spec.loader, work.inputs["model"], options, python=python) as runtime:
        runtime.wait_loaded()
        for group, (inputs, target) in zip(
            groups, batches(splits, splits.test, groups), strict=True
        ):
            named = arrays(inputs)
            real = real or named
            outputs = runtime.predict(named)
            _check_outputs(outputs, len(group))
            rows.append(measure.per_sample(outputs, target.numpy()))
            if group[0] < _PARITY_SAMPLES:
                with torch.inference_mode():
                    expected.append(call_model(trained, inputs).float().numpy())
                found.append(outputs)
            work.progress(group[-1] + 1, len(splits.test))
        apart = parity(np.concatenate(expected), np.concatenate(found))
        write_proofs(
            work.output("proof", "proof"),
            work.inputs["model"],
            real,
            runtime.predict,
            apart["parity/sqnr_db"],
            threads,
        )
    statistics = np.concatenate(rows)
    kept = load_file(str(work.inputs["statistics"] / STATISTICS))
    sign = 1 if spec.higher_is_better else -1
    value, low, high = quality_interval(statistics, measure.aggregate)
    reference = kept["statistics"]

    def drop(chosen: Array) -> float:
        return sign * (measure.aggregate(reference[chosen]) - measure.aggregate(statistics[chosen]))

    everything = np.arange(len(statistics))
    drop_low, drop_high = bootstrap(drop, len(statistics))
    name = f"quality/{short_name(spec.metric)}"
    size = _size(work.inputs["model"])
    metrics = {
        name: value,
        f"{name}_low": low,
        f"{name}_high": high,
        "quality/drop": drop(everything),
        "quality/drop_low": drop_low,
        "quality/drop_high": drop_high,
        "size/bytes": float(size),
        "size/ratio": _size(work.inputs["weights"]) / size,
        **apart,
    }
    if spec.groups:
        metrics |= group_quality(
            statistics, reference, kept["targets"], measure.aggregate, spec.higher_is_better
        )
    return Result(metrics=metrics)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _check_outputs(outputs: Array, count: int) -> None:
    if outputs.shape[:1] != (count,):
        raise StepFailed(
            f"the candidate's output has shape {outputs.shape} for a batch of {count}",
            where="validate",
        )
    if not np.isfinite(outputs).all():
        raise StepFailed("the candidate's output has NaN or infinite values", where="validate")
