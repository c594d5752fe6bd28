"""Where a model's outputs and the targets have their classes, and which targets count.

Losses and metrics read both here, so that they can't disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

#: A target that does not count, as in `torch.nn.functional.cross_entropy`.
IGNORED = -100


def class_axis(outputs: Sequence[int], targets: Sequence[int]) -> int:
    """The axis of classes in outputs of a shape, for class numbers of a shape.

    It is axis 1, as in torch, (N, C, ...) for targets (N, ...). In sequences (N, T, C) for targets
    (N, T) it is the last one, also if T equals C; and so it is wherever only that fits.
    """
    wanted = tuple(targets)
    is_last = tuple(outputs[:-1]) == wanted
    is_first = (*outputs[:1], *outputs[2:]) == wanted
    if is_last and (len(outputs) == 3 or not is_first):
        return len(outputs) - 1
    return 1


class Positions(NamedTuple):
    """Outputs and targets by position: a sample has one, or as many as tokens or pixels.

    Attributes:
        logits: (N, P, C).
        targets: Class numbers (N, P); 0 where a target doesn't count.
        counts: Whether a target counts (N, P).
    """

    logits: Array
    targets: Array
    counts: Array


def by_position(outputs: Array, targets: Array) -> Positions:
    """Logits and class numbers by position.

    Raises:
        ValueError: They don't fit, or a target is no class.
    """
    if outputs.ndim < 2:
        raise ValueError(f"outputs of shape {outputs.shape} have no axis of classes")
    logits = np.moveaxis(outputs, class_axis(outputs.shape, targets.shape), -1)
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"outputs {outputs.shape} take class numbers of shape {logits.shape[:-1]}, and the "
            f"targets have {targets.shape}"
        )
    classes = logits.shape[-1]
    counts = targets != IGNORED
    wrong = targets[counts & ((targets < 0) | (targets >= classes) | (targets % 1 != 0))]
    if wrong.size:
        raise ValueError(
            f"a target is {wrong.flat[0]}, and the classes are 0 to {classes - 1} "
            f"({IGNORED}: doesn't count)"
        )
    count = len(targets)
    numbers = np.where(counts, targets, 0).astype(np.int64)
    return Positions(
        logits.reshape(count, -1, classes), numbers.reshape(count, -1), counts.reshape(count, -1)
    )


def negative_log_likelihood(found: Positions) -> Array:
    """Of each position's target, in nats (N, P); 0 where it doesn't count."""
    logits = found.logits.astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=-1))
    chosen = np.take_along_axis(shifted, found.targets[..., None], axis=-1)[..., 0]
    nats: Array = np.where(found.counts, log_sum - chosen, 0.0)
    return nats


def probabilities(found: Positions) -> Array:
    """Of each position's classes (N, P, C): the softmax of its logits."""
    logits = found.logits.astype(np.float64)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normalized: Array = shares / shares.sum(axis=-1, keepdims=True)
    return normalized


def sigmoid(logits: Array) -> Array:
    """The probability that a logit of its own says."""
    values: Array = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -700, 700)))
    return values


def sums_and_counts(values: Array, counts: Array) -> Array:
    """Each sample's sum over its positions that count, and their number: (N, 2)."""
    return np.stack([np.where(counts, values, 0.0).sum(axis=1), counts.sum(axis=1)], axis=1).astype(
        np.float64
    )


def are_labels(outputs: Array, targets: Array) -> bool:
    """Whether targets are labels of their own, 0 or 1, each with a logit of its own.

    Raises:
        ValueError: They have the outputs' shape, and other values.
    """
    if outputs.shape != targets.shape:
        return False
    if not np.isin(targets, (0, 1)).all():
        raise ValueError(
            "targets of the outputs' shape are labels, each 0 or 1, and some are something else"
        )
    return True


def two_classes(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """One logit and label of a sample as the logits (N, 2) of two classes; all else as it is.

    Raises:
        ValueError: A sample has several labels.
    """
    if not are_labels(outputs, targets):
        return outputs, targets
    if outputs[:1].size > 1:
        raise ValueError("of several labels it judges none: it takes class numbers")
    logits = outputs.reshape(-1)
    return np.stack([np.zeros_like(logits), logits], axis=1), targets.reshape(-1)


def several_answers(targets: Array) -> None:
    """Raises:
    ValueError: A sample has only one answer.
    """
    if targets.ndim < 3:
        raise ValueError("it takes masks, a class or label for each pixel")


def vectors(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Both as vectors (N, D), float64.

    Raises:
        ValueError: One is something else.
    """
    if outputs.ndim != 2 or targets.ndim != 2:
        raise ValueError("it takes vectors (N, D), one for each sample")
    return outputs.astype(np.float64), targets.astype(np.float64)


def same_shape(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Predicted and true numbers as (N, k); shapes may differ by axes of size 1.

    Raises:
        ValueError: They differ by more.
    """
    shapes = [[size for size in values.shape[1:] if size != 1] for values in (outputs, targets)]
    if len(outputs) != len(targets) or shapes[0] != shapes[1]:
        raise ValueError(f"outputs {outputs.shape} and targets {targets.shape} differ in shape")
    count = len(targets)
    return outputs.astype(np.float64).reshape(count, -1), targets.reshape(count, -1)
