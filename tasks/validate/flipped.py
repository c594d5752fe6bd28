"""The flipped samples themselves: what they are, both answers, and by how much each was right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ray_workers.data.calling import Arrays, arrays
from ...ray_workers.data.splits import Splits, batches
from ...ray_workers.data.targets import main_target
from ..specs.validate import FlippedSample
from .shown import shown

Array = np.ndarray[Any, Any]
#: Samples that a report shows, of each way.
MOST_SHOWN = 6


@dataclass(frozen=True)
class Answers:
    """Answers of a model to samples that have one each.

    Attributes:
        classes: The class that it answers (N,).
        margins: Logit of the true class above the best other one (N,): negative where the answer is
            wrong.
    """

    classes: Array
    margins: Array

    @classmethod
    def of(cls, outputs: Array, targets: Array) -> Answers | None:
        """From logits (N, C) and class numbers (N,); None if they are something else."""
        if outputs.ndim != 2 or targets.ndim != 1 or outputs.shape[1] < 2:
            return None
        if not np.issubdtype(targets.dtype, np.integer):
            return None
        count, classes = outputs.shape
        if ((targets < 0) | (targets >= classes)).any():
            return None
        logits = outputs.astype(np.float64)
        true = logits[np.arange(count), targets]
        others = logits.copy()
        others[np.arange(count), targets] = -np.inf
        return cls(logits.argmax(axis=1), true - others.max(axis=1))

    def by_index(self, indices: Sequence[int]) -> dict[int, tuple[int, float]]:
        """Class and margin of each sample, by its index in the split."""
        both = zip(self.classes.tolist(), self.margins.tolist(), strict=True)
        return dict(zip(indices, both, strict=True))


def flipped_samples(
    splits: Splits,
    chosen: Sequence[int],
    answers: dict[int, tuple[int, float]],
    trained: Callable[[Any], Arrays],
    broken: bool,
    target_name: str | None = None,
) -> tuple[FlippedSample, ...]:
    """Samples whose answer flipped, those that the candidate is most wrong or right about first.

    Args:
        splits: The data.
        chosen: Their indices in the test split.
        answers: Class and margin of the candidate's answers, by index, if they are classes.
        trained: The trained model, from a batch to its outputs, the main one first.
        broken: Whether the candidate is the one that is wrong.
        target_name: Of several targets, the one that is looked at.
    """
    sign = 1 if broken else -1
    order = sorted(chosen, key=lambda i: sign * answers[i][1] if i in answers else 0.0)[:MOST_SHOWN]
    found = []
    for index, (inputs, target) in zip(
        order, batches(splits, splits.test, [[i] for i in order]), strict=True
    ):
        outputs = next(iter(trained(inputs).values()))
        truth = main_target(target, target_name).numpy()
        before, after = Answers.of(outputs, truth), answers.get(index)
        found.append(
            FlippedSample(
                index=index,
                sample=shown(arrays(inputs), splits.text, splits.test[index][0]),
                target=None if before is None else int(truth[0]),
                before=None if before is None else int(before.classes[0]),
                after=None if after is None else after[0],
                margin_before=None if before is None else round(float(before.margins[0]), 4),
                margin_after=None if after is None else round(after[1], 4),
            )
        )
    return tuple(found)
