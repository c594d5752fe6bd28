"""Occlusion: how much an answer loses if a region of the input is taken away.

It needs no gradients, so it works through every runtime (Zeiler and Fergus,
https://arxiv.org/abs/1311.2901).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ray_workers.data.calling import Arrays
from ...ray_workers.data.input_kinds import ChangedInput
from ...ray_workers.metrics.positions import IGNORED, class_axis

Array = np.ndarray[Any, Any]
Answer = Callable[[Arrays], Array]
#: Regions along each side of an image, and of any other input at most.
_SIDE, _MOST = 8, 64
#: Inputs that are answered at once: a sample as it is and without each of its regions, because a
#: runtime prepares itself anew for each size of a batch.
_AT_ONCE = _MOST + 1


@dataclass(frozen=True)
class Focus:
    """The answer that is explained: how strongly an output gives it.

    Attributes:
        axis: The axis of classes; None: the output is numbers, and its projection on the trained
            model's is looked at.
        answer: The trained model's classes (1, ...), or its output (1, ...) as a unit vector.
        counts: Of which positions the classes count (1, ...).
    """

    axis: int | None
    answer: Array
    counts: Array

    @classmethod
    def on(cls, output: Array, target: Array) -> Focus:
        """The trained model's own answer.

        Args:
            output: Its output for a sample (1, ...).
            target: The sample's target (1, ...), which only says where classes are.
        """
        if (
            np.issubdtype(target.dtype, np.integer)
            and output.ndim > 1
            and (output.shape != target.shape)
        ):
            axis = class_axis(output.shape, target.shape)
            answer = output.argmax(axis=axis)
            if answer.shape == target.shape and output.shape[axis] > 1:
                return cls(axis, answer, target != IGNORED)
        unit = output.astype(np.float64)
        return cls(None, unit / max(float(np.linalg.norm(unit)), 1e-12), np.ones(1, bool))

    def of(self, outputs: Array) -> Array:
        """How strongly each output (M, ...) gives the answer (M,): the logit of its classes above
        the mean logit, or the projection.
        """
        outputs = outputs.astype(np.float64)
        count = len(outputs)
        if self.axis is None:
            return np.asarray((outputs * self.answer).reshape(count, -1).sum(axis=1))
        logits = np.moveaxis(outputs, self.axis, -1)
        wanted = np.broadcast_to(self.answer, logits.shape[:-1])[..., None]
        above = np.take_along_axis(logits, wanted, axis=-1)[..., 0] - logits.mean(axis=-1)
        counts = np.broadcast_to(self.counts, above.shape).reshape(count, -1)
        total = np.where(counts, above.reshape(count, -1), 0).sum(axis=1)
        return np.asarray(total / max(1, int(counts[0].sum())))


class Occluder:
    """Takes regions of a sample away.

    Args:
        changed: The input that they are regions of.
        known: A few samples: their mean takes a region's place, in tokens the padding.
    """

    def __init__(self, changed: ChangedInput, known: Arrays) -> None:
        self._changed = changed
        values = known[changed.name]
        if changed.kind == "images":
            channel = 3 if changed.channels_last else 1
            axes = tuple(axis for axis in range(4) if axis != channel)
            self._fill = values.mean(axis=axes, keepdims=True)[0]
        elif changed.kind == "features":
            self._fill = values.mean(axis=0)

    def regions(self, inputs: Arrays) -> tuple[int, list[Array]]:
        """The regions of a sample: how many rows of them there are, and a mask of each.

        Args:
            inputs: The sample, each (1, ...).
        """
        shape = inputs[self._changed.name].shape[1:]
        if self._changed.kind != "images":
            places = np.arange(int(np.prod(shape))).reshape(shape)
            parts = np.array_split(places.ravel(), min(_MOST, places.size))
            return 1, [np.isin(places, part) for part in parts]
        masks, across = [], (0, 1) if self._changed.channels_last else (1, 2)
        down, right = (
            np.array_split(np.arange(shape[axis]), min(_SIDE, shape[axis])) for axis in across
        )
        for rows in down:
            for columns in right:
                mask = np.zeros(shape, bool)
                area = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
                mask[area if self._changed.channels_last else (slice(None), *area)] = True
                masks.append(mask)
        return len(down), masks

    def attribution(self, inputs: Arrays, focus: Focus, answer: Answer) -> Array:
        """How much the answer loses without each region (R,).

        Args:
            inputs: The sample, each (1, ...).
            focus: The answer.
            answer: The model, from inputs to its main output.
        """
        _, masks = self.regions(inputs)
        values = inputs[self._changed.name]
        empty = np.broadcast_to(self._empty(values), values.shape[1:]).astype(values.dtype)
        changed = np.stack([values[0], *(np.where(mask, empty, values[0]) for mask in masks)])
        found = []
        for start in range(0, len(changed), _AT_ONCE):
            part = changed[start : start + _AT_ONCE]
            batch = {name: np.repeat(value, len(part), axis=0) for name, value in inputs.items()}
            found.append(focus.of(answer({**batch, self._changed.name: part})))
        strengths = np.concatenate(found)
        return np.asarray(strengths[0] - strengths[1:])

    def _empty(self, values: Array) -> Any:
        """What takes a region's place."""
        if self._changed.kind == "tokens":
            return self._changed.padding
        same = self._changed.kind == "images" or self._fill.shape == values.shape[1:]
        return self._fill if same else self._fill.mean()
