"""Robustness: quality under corrupted inputs, of the trained model and of each candidate.

Both see the very same corrupted samples, so what a candidate loses by a corruption is compared with
what the trained model loses by it, sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from ...ray_workers.data.calling import Arrays, arrays, returned_by, tensors
from ...ray_workers.data.splits import Splits, batch_indices, batches
from ...ray_workers.metrics import stacked
from ...ray_workers.metrics.judgement import Judgement
from ...ray_workers.model.module import load_module
from ...ray_workers.runtime_process import RuntimeProcess
from ...ray_workers.store.file_names import STATISTICS
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ...runtimes.predict import Outputs, main_of
from ..specs.robustness import (
    CorruptedFacts,
    CorruptedSpec,
    RobustnessFacts,
    RobustnessSpec,
    UnderCorruption,
)
from .chosen import evenly, input_to_change, known_samples, splits_of
from .corruptions import Corrupter, Corruption, corruptions_of
from .interval import with_bounds
from .loss_under import LossUnder, Pair
from .opened import opened
from .reference import BATCH

Array = np.ndarray[Any, Any]
#: From inputs to outputs.
Answer = Callable[[Arrays], Any]


@dataclass(frozen=True)
class _Corrupted:
    """The samples that are corrupted, the same for every model.

    Attributes:
        splits: The data.
        indices: Of the samples in the test split.
        kind: What the input is.
        all: Every corruption.
        corrupt: Corrupts a batch.
    """

    splits: Splits
    indices: list[int]
    kind: str
    all: list[Corruption]
    corrupt: Corrupter

    @classmethod
    def of(cls, work: Workspace[Any]) -> _Corrupted | str:
        """Of a step's data; or why no corruption fits its inputs."""
        splits, proofs = splits_of(work), work.spec.proofs
        known = known_samples(splits)
        changed = input_to_change(known, proofs)
        if isinstance(changed, str):
            return changed
        indices = evenly(len(splits.test), proofs.corrupted_samples)
        corrupt = Corrupter(changed, known)
        return cls(splits, indices, changed.kind, corruptions_of(changed), corrupt)

    def statistics(self, how: Corruption, answer: Answer, measure: Judgement) -> Array:
        """A model's statistics under a corruption, one row per sample.

        Args:
            how: The corruption.
            answer: The model, from inputs to its outputs.
            measure: The metric.
        """
        groups = batch_indices(self.indices, BATCH)
        rows = []
        read = batches(self.splits, self.splits.test, groups)
        for group, (inputs, target) in zip(groups, read, strict=True):
            outputs = answer(self.corrupt(arrays(inputs), group, how))
            rows.append(measure.per_sample(outputs, target))
        return stacked(rows)


def trained(work: Workspace[CorruptedSpec]) -> Result:
    """The trained model under every corruption. Input: `weights`. Output: `statistics`.

    Where no corruption fits the inputs, the output is empty, and the facts say why.
    """
    folder = work.output("statistics", "statistics")
    samples = _Corrupted.of(work)
    if isinstance(samples, str):
        save_file({}, str(folder / STATISTICS))
        return Result(facts=CorruptedFacts(not_looked_at=samples))
    model = load_module(work.spec.model, work.allowed, work.inputs["weights"])
    measure = Judgement(work.spec, work.allowed)

    def answer(inputs: Arrays) -> Any:
        with torch.inference_mode():
            return returned_by(model, tensors(inputs))

    found = {str(how): samples.statistics(how, answer, measure) for how in samples.all}
    save_file(found, str(folder / STATISTICS))
    return Result(facts=CorruptedFacts())


def candidate(work: Workspace[RobustnessSpec]) -> Result:
    """A candidate under every corruption, beside the trained model.

    Inputs: `model`; statistics, one row per sample: `reference` and `validated`, of the test split
    as it is, and `corrupted`, of the trained model under each corruption.

    Raises:
        StepFailed: An answer is not finite; with the corruption.
        StepCrashed: The candidate's runtime died.
    """
    samples = _Corrupted.of(work)
    if isinstance(samples, str):
        return Result(facts=RobustnessFacts(not_looked_at=samples))
    measure = Judgement(work.spec, work.allowed)
    kept = {
        name: load_file(str(work.inputs[name] / STATISTICS))
        for name in ("reference", "validated", "corrupted")
    }
    clean = Pair(
        *(kept[name]["statistics"][samples.indices] for name in ("reference", "validated"))
    )
    corrupted = {}
    with opened(work) as runtime:
        for done, how in enumerate(samples.all):
            rows = samples.statistics(how, partial(_finite, runtime, how), measure)
            corrupted[how] = Pair(kept["corrupted"][str(how)], rows)
            work.progress(done + 1, len(samples.all))
    loss = LossUnder.of(measure.aggregate, work.spec.higher_is_better, clean, corrupted)
    conditions = loss.conditions()
    facts = RobustnessFacts(
        kind=samples.kind,
        samples=len(loss.clean.trained),
        before=measure.aggregate(loss.clean.trained),
        after=measure.aggregate(loss.clean.candidate),
        conditions=conditions,
    )
    return Result(metrics=lost_metrics(loss, conditions), facts=facts)


def lost_metrics(loss: LossUnder, conditions: Sequence[UnderCorruption]) -> dict[str, float]:
    """Quality under each corruption, and the worst and the mean loss, under MLflow's names."""
    return {
        **{f"robustness/{one.corruption}_{one.strength}": one.after for one in conditions},
        **with_bounds("robustness/worst_drop", loss.worst()),
        **with_bounds(
            "robustness/mean_drop", loss.mean(list(loss.corrupted), bounds=loss.is_quick)
        ),
    }


def _finite(runtime: RuntimeProcess, how: Corruption, inputs: Arrays) -> Outputs:
    """A candidate's answers.

    Raises:
        StepFailed: One is not finite.
    """
    found = runtime.outputs(inputs)
    if not np.isfinite(main_of(found)).all():
        raise StepFailed(
            f"the candidate's output has NaN or infinite values under {how.name} of strength "
            f"{how.strength}",
            where="robustness",
        )
    return found
