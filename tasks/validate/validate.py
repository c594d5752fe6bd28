"""Validate one candidate, through the runtime that would serve it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from ...ray_workers.data.asking import data_of
from ...ray_workers.data.calling import arrays, returned_by
from ...ray_workers.data.groups import read_groupings
from ...ray_workers.data.splits import Splits, batch_indices, batches, split
from ...ray_workers.data.targets import main_target
from ...ray_workers.metrics import stacked
from ...ray_workers.metrics.judgement import Judgement
from ...ray_workers.model.module import load_module
from ...ray_workers.runtime_process import RuntimeProcess
from ...ray_workers.store.file_names import STATISTICS
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ...recipe.strict import short_name
from ...runtimes.predict import Arrays, Outputs, main_of
from ..specs.validate import FlipFacts, FlippedSample, ValidateSpec
from .agreement import agreement_metrics, agreement_rows
from .changes import Array, changes
from .flipped import Answers, flipped_samples
from .groups import Judged
from .interval import drop_interval, quality_interval, with_bounds
from .opened import opened
from .parity import parity
from .proof import write_proofs
from .reference import BATCH

#: Samples of the test split whose outputs are compared with the trained model's.
_PARITY_SAMPLES = 256
#: Samples that are predicted one by one, at their own sizes.
_ALONE = 3


def validate(work: Workspace[ValidateSpec]) -> Result:
    """Evaluate a candidate.

    Inputs: `weights`, `model` (the candidate), `statistics` (of the reference),
    `groups` (of the samples). Outputs: `proof`,
    `statistics` (of the candidate).

    Raises:
        StepFailed: The candidate's outputs have another shape, or are not finite.
        StepCrashed: Its runtime died.
    """
    spec = work.spec
    splits = split(
        data_of(work, spec.data),
        spec.seed,
    )
    trained = load_module(spec.model, work.allowed, work.inputs["weights"])
    measure = Judgement(spec, work.allowed)
    groups = batch_indices(range(len(splits.test)), BATCH)
    rows: list[Array] = []
    answers: dict[int, tuple[int, float]] = {}
    compared = _Compared()
    threads = max(1, int(work.cpus))
    real: Arrays = {}
    with opened(work) as runtime:
        for group, (inputs, target) in zip(
            groups, batches(splits, splits.test, groups), strict=True
        ):
            named = arrays(inputs)
            real = real or named
            outputs = runtime.outputs(named)
            main = main_of(outputs)
            _check_outputs(main, len(group))
            rows.append(measure.per_sample(outputs, target))
            truth = main_target(target, spec.data.target).numpy()
            found = Answers.of(main, truth)
            if found is not None:
                answers |= found.by_index(group)
            if group[0] < _PARITY_SAMPLES:
                compared.add(_of_torch(trained, inputs), outputs, truth)
            work.progress(group[-1] + 1, len(splits.test))
        _try_alone(splits, trained, runtime)
        apart = compared.metrics()
        write_proofs(
            work.output("proof", "proof"),
            work.inputs["model"],
            real,
            runtime.predict,
            apart["parity/sqnr_db"],
            threads,
        )
    statistics = stacked(rows)
    kept = load_file(str(work.inputs["statistics"] / STATISTICS))
    save_file({"statistics": statistics}, str(work.output("statistics", "statistics") / STATISTICS))
    reference = kept["statistics"]
    drop = drop_interval(reference, statistics, measure.aggregate, spec.higher_is_better)
    name = f"quality/{short_name(spec.metric)}"
    size = _size(work.inputs["model"])
    metrics = {
        **with_bounds(name, quality_interval(statistics, measure.aggregate)),
        **with_bounds("quality/drop", drop),
        "size/bytes": float(size),
        "size/ratio": _size(work.inputs["weights"]) / size,
        **apart,
        **(compared.agreement() if spec.flips else {}),
    }
    judged = Judged(statistics, reference, measure.aggregate, spec.higher_is_better)
    changed, facts = changes(judged, read_groupings(work.inputs["groups"]), spec.flips)
    if facts.flips is not None and spec.show_samples:
        shown = _Shown(splits, trained, answers, spec.data.target)
        flipped = shown.of(facts.flips)
        facts = facts.model_copy(update={"flips": flipped})
    return Result(metrics=metrics | changed, facts=facts, notes=compared.notes())


class _Compared:
    """Outputs of the trained model and of the candidate, batch by batch, by name."""

    def __init__(self) -> None:
        self._pairs: dict[str, tuple[list[Array], list[Array]]] = {}
        self._agreement: list[Array | None] = []
        self._other_shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def add(self, expected: Arrays, outputs: Outputs, targets: Array) -> None:
        """Add a batch.

        Args:
            expected: Outputs of the trained model, the main one first.
            outputs: The candidate's.
            targets: Of the samples.

        Raises:
            StepFailed: The main one has another shape. Other ones may: a layer that was pruned, or
                a student's, has another width.
        """
        first = next(iter(expected))
        found = outputs if isinstance(outputs, dict) else {first: outputs}
        for name, truth in expected.items():
            # A target of the user's own may name its outputs otherwise: only the main one is known.
            value = found.get(name)
            if value is None:
                continue
            if truth.shape == value.shape:
                pair = self._pairs.setdefault(name, ([], []))
                pair[0].append(truth)
                pair[1].append(value)
                continue
            if name == first:
                raise StepFailed(
                    f"the candidate's output '{name}' has shape {value.shape}, the trained model's "
                    f"{truth.shape}",
                    where="validate",
                )
            self._other_shapes.setdefault(name, (value.shape[1:], truth.shape[1:]))
        self._agreement.append(agreement_rows(expected[first], main_of(outputs), targets))

    def notes(self) -> list[str]:
        """Which outputs have other shapes."""
        return [
            f"the output '{name}' has shape {found} for a sample, the trained model's {truth}: it "
            "is not compared"
            for name, (found, truth) in self._other_shapes.items()
        ]

    def agreement(self) -> dict[str, float]:
        """How far the answers agree; empty if the model has no classes."""
        rows = [part for part in self._agreement if part is not None]
        return agreement_metrics(np.concatenate(rows)) if rows else {}

    def metrics(self) -> dict[str, float]:
        """Parity of the main output, and of each other one under its name."""
        metrics: dict[str, float] = {}
        for index, (name, (expected, found)) in enumerate(self._pairs.items()):
            if name in self._other_shapes:
                continue
            measured = parity(expected, found)
            if index:
                measured = {
                    f"parity/{name}/{key.rpartition('/')[2]}": value
                    for key, value in measured.items()
                    if np.isfinite(value)
                }
            metrics |= measured
        return metrics


@dataclass(frozen=True)
class _Shown:
    """Shows a few of the samples whose answers flipped.

    Attributes:
        splits: The data.
        trained: The trained model.
        answers: Class and margin of the candidate's answers, by index.
        target: Name of the target that is looked at.
    """

    splits: Splits
    trained: torch.nn.Module
    answers: dict[int, tuple[int, float]]
    target: str | None

    def of(self, flips: FlipFacts) -> FlipFacts:
        """The flips with the samples themselves."""
        return flips.model_copy(
            update={
                "shown_broken": self._some(flips.broken_samples, True),
                "shown_repaired": self._some(flips.repaired_samples, False),
            }
        )

    def _some(self, indices: tuple[int, ...], broken: bool) -> tuple[FlippedSample, ...]:
        answer = partial(_of_torch, self.trained)
        return flipped_samples(self.splits, indices, self.answers, answer, broken, self.target)


def _of_torch(model: torch.nn.Module, inputs: Any) -> Arrays:
    """The trained model's outputs by name, the main one first."""
    with torch.inference_mode():
        ordered = returned_by(model, inputs)
    return {
        name: (value.float() if value.is_floating_point() else value).numpy()
        for name, value in ordered.items()
    }


def _try_alone(splits: Splits, trained: torch.nn.Module, runtime: RuntimeProcess) -> None:
    """Predict a few samples one by one: at other sizes than those of a batch that was padded.

    Raises:
        StepFailed: The candidate can't take one; with its sizes.
    """
    rows = [[int(i)] for i in np.linspace(0, len(splits.test) - 1, _ALONE)]
    for inputs, _ in batches(splits, splits.test, rows):
        named = arrays(inputs)
        shapes = ", ".join(f"{name} {value.shape}" for name, value in named.items())
        try:
            found = runtime.predict(named)
        except StepFailed as error:
            raise StepFailed(
                f"the candidate can't take one sample alone ({shapes}): {error.what}",
                where=error.where or "validate",
                do=error.do,
            ) from error
        _check_outputs(found, 1)
        expected = next(iter(_of_torch(trained, inputs).values()))
        if found.shape != expected.shape:
            raise StepFailed(
                f"the candidate's output for one sample ({shapes}) has shape {found.shape}, the "
                f"trained model's {expected.shape}: it was compiled for one size only",
                where="validate",
            )


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
