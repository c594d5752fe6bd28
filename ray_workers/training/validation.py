"""The metric and the loss on the validation split, over all workers."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from ..data.splits import Splits
from ..data.targets import first_of, joined
from ..metrics import stacked
from ..metrics.judgement import Judgement
from .dealing import deal
from .ema import Ema
from .job import TrainJob
from .loading import Loader
from .parallel.axes import Axes
from .parallel.parallelize import Placed
from .step import StepRunner


def validate(
    job: TrainJob,
    splits: Splits,
    loader: Loader,
    placed: Placed,
    runner: StepRunner,
    ema: Ema | None,
    axes: Axes,
) -> tuple[float, float]:
    """The metric and the mean loss, each sample counted once."""
    measure, spec = Judgement(job, job.allowed), job.train
    pipelined = axes["pipeline"] > 1
    parts = spec.parallel.pipeline.microbatches if pipelined else 1
    dealt = deal(
        range(len(splits.validation)),
        spec.batch_size,
        axes.readers,
        axes.reader,
        parts,
        same_size=pipelined,
    )
    found: list[tuple[list[int], Any]] = []
    loss_sum = counted = 0.0
    placed.train(False)
    with ema.in_place() if ema is not None else contextlib.nullcontext():
        for shares, step in zip(dealt, loader.steps(dealt, -1, 0), strict=True):
            outputs, loss = runner.evaluate(step)
            if not axes.owns_outputs or not sum(batch.own for batch in step) or not outputs:
                continue
            target = joined([first_of(batch.target, batch.own) for batch in step])
            rows = measure.per_sample(outputs, target)
            found.append(([i for s in shares for i in s.indices[: s.own]], rows))
            loss_sum += loss
            counted += float(runner.counted)
    gathered = axes.gather((found, loss_sum, counted))
    parts_found = [part for worker, _, _ in gathered for part in worker]
    order = np.argsort(np.concatenate([np.asarray(indices) for indices, _ in parts_found]))
    rows = stacked([rows for _, rows in parts_found])[order]
    count = sum(counted for _, _, counted in gathered)
    return measure.aggregate(rows), sum(loss for _, loss, _ in gathered) / max(count, 1e-12)
