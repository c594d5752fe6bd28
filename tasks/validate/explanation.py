"""Explanation: do a candidate's answers depend on the same regions as the trained model's?

Both are asked for the trained model's answer, with each region of the input occluded in turn. What
is compared is the order of the regions, not the size of the effect, which no two runtimes share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from ...ray_workers.data.calling import Arrays, arrays, call_model, tensors
from ...ray_workers.data.input_kinds import ChangedInput
from ...ray_workers.data.splits import Splits, batches
from ...ray_workers.data.targets import main_target
from ...ray_workers.model.module import load_module
from ...ray_workers.store.file_names import ATTRIBUTIONS
from ...ray_workers.workspace import Result, Workspace
from ..specs.explanation import (
    Attribution,
    ExplainedFacts,
    ExplainedSpec,
    ExplanationFacts,
    ExplanationSpec,
)
from ..specs.shown import ShownSample
from .attribution_agreement import Agreement, agreement_metrics
from .chosen import evenly, input_to_change, known_samples, splits_of
from .occlusion import Answer, Array, Focus, Occluder
from .opened import opened
from .shown import part_names, shown

#: Samples that a report shows.
_SHOWN = 4
#: Effects that are this small, beside the answer's own strength, are rounding.
_ROUNDING = 1e-6


class _Sample(NamedTuple):
    """A sample: its place in the test split, its inputs and its target, both (1, ...)."""

    place: int
    inputs: Arrays
    target: Array


@dataclass(frozen=True)
class _Explained:
    """The samples that are explained, the same for every model.

    Attributes:
        splits: The data.
        indices: Of the samples in the test split.
        changed: The input that is occluded.
        occluder: Takes regions away.
        show: Whether the report may show samples.
        target: Of several targets, the one that is looked at.
    """

    splits: Splits
    indices: list[int]
    changed: ChangedInput
    occluder: Occluder
    show: bool
    target: str | None

    @classmethod
    def of(cls, work: Workspace[Any]) -> _Explained | str:
        """Of a step's data; or why its inputs can't be occluded."""
        splits, proofs = splits_of(work), work.spec.proofs
        known = known_samples(splits)
        changed = input_to_change(known, proofs)
        if isinstance(changed, str):
            return changed
        if known[changed.name][0].size < 2:
            return "the input is a single number, of which no part can be occluded"
        indices = evenly(len(splits.test), proofs.explained_samples)
        occluder, target = Occluder(changed, known), work.spec.data.target
        return cls(splits, indices, changed, occluder, proofs.show_samples, target)

    def __iter__(self) -> Iterator[_Sample]:
        read = batches(self.splits, self.splits.test, [[index] for index in self.indices])
        for index, (inputs, target) in zip(self.indices, read, strict=True):
            yield _Sample(index, arrays(inputs), main_target(target, self.target).numpy())

    def said(self, sample: _Sample, values: Array, with_sample: bool) -> Attribution:
        """A sample's attribution for a report."""
        rows, masks = self.occluder.regions(sample.inputs)
        largest = max(float(np.abs(values).max()), 1e-12)
        return Attribution(
            index=sample.place,
            rows=rows,
            values=tuple(round(float(value), 3) for value in values / largest),
            names=() if rows > 1 or not with_sample else self._names(sample, masks),
            sample=self._shown(sample) if with_sample else None,
        )

    def _shown(self, sample: _Sample) -> ShownSample:
        return shown(sample.inputs, self.splits.text, self.splits.test[sample.place][0])

    def _names(self, sample: _Sample, masks: list[Array]) -> tuple[str, ...]:
        values = sample.inputs[self.changed.name][0]
        is_text = self.changed.kind == "tokens" and len(sample.inputs) == 1
        return part_names(values, masks, self.splits.text if is_text else None)


def trained(work: Workspace[ExplainedSpec]) -> Result:
    """Explain the trained model's answers. Input: `weights`. Output: `attributions`.

    Where the inputs can't be occluded, the output is empty, and the facts say why.
    """
    folder = work.output("attributions", "attributions")
    explained = _Explained.of(work)
    if isinstance(explained, str):
        save_file({}, str(folder / ATTRIBUTIONS))
        return Result(facts=ExplainedFacts(not_looked_at=explained))
    model = load_module(work.spec.model, work.allowed, work.inputs["weights"])

    def answer(inputs: Arrays) -> Array:
        with torch.inference_mode():
            return np.asarray(call_model(model, tensors(inputs)).float().numpy())

    kept: dict[str, Array] = {}
    said: list[Attribution] = []
    for sample in explained:
        output = answer(sample.inputs)
        focus = Focus.on(output, sample.target)
        found = explained.occluder.attribution(sample.inputs, focus, answer)
        found[np.abs(found) <= _ROUNDING * np.abs(focus.of(output))] = 0
        kept |= {f"output-{sample.place}": output, f"attribution-{sample.place}": found}
        if explained.show and len(said) < _SHOWN and found.any():
            said.append(explained.said(sample, found, with_sample=True))
    save_file(kept, str(folder / ATTRIBUTIONS))
    return Result(facts=ExplainedFacts(kind=explained.changed.kind, shown=tuple(said)))


def candidate(work: Workspace[ExplanationSpec]) -> Result:
    """Explain the same answers of a candidate, and compare.

    Inputs: `model`, `attributions` (the trained model's).

    Raises:
        StepCrashed: The candidate's runtime died.
    """
    explained = _Explained.of(work)
    if isinstance(explained, str):
        return Result(facts=ExplanationFacts(not_looked_at=explained))
    kept = load_file(str(work.inputs["attributions"] / ATTRIBUTIONS))
    compared: list[Agreement] = []
    said: list[Attribution] = []
    agreements: list[float] = []
    constant = 0
    with opened(work) as runtime:
        answer: Answer = runtime.predict
        for done, sample in enumerate(explained):
            before = kept[f"attribution-{sample.place}"]
            work.progress(done + 1, len(explained.indices))
            if not before.any():
                constant += 1
                continue
            focus = Focus.on(kept[f"output-{sample.place}"], sample.target)
            after = explained.occluder.attribution(sample.inputs, focus, answer)
            compared.append(Agreement.of(before, after))
            if explained.show and len(said) < _SHOWN:
                said.append(explained.said(sample, after, with_sample=False))
                agreements.append(compared[-1].correlation)
    if not compared:
        why = "no region of any sample changes the trained model's answer"
        return Result(facts=ExplanationFacts(not_looked_at=why, constant=constant))
    facts = ExplanationFacts(
        kind=explained.changed.kind,
        shown=tuple(said),
        samples=len(compared),
        constant=constant,
        agreements=tuple(agreements),
    )
    return Result(metrics=agreement_metrics(compared), facts=facts)
