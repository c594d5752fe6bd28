"""Losses by name: the mean over what counts, with an explanation if shapes don't fit.

Parts of a batch (micro-batches, workers) may have different numbers of targets that count. So a
loss is a sum and a count, and the mean is that of the whole step's sum. A plain scalar stands for
the mean over a part's samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ...recipe.errors import InputError
from ...recipe.factories import Allowed, raised, users_line
from ...recipe.library_messages import telling
from ..data.calling import named_outputs
from ..data.targets import main_target, named_targets
from ..metrics.positions import IGNORED, class_axis

#: Of outputs and targets; a loss of the user's own may get several of both at once.
Loss = Callable[[Any, Any], torch.Tensor]


@dataclass(frozen=True)
class Counted:
    """A sum, and what it is divided by: targets that count, or the sum of their weights.

    Attributes:
        total: A scalar, with gradient.
        count: A scalar, not below 0.
    """

    total: torch.Tensor
    count: torch.Tensor | float

    @property
    def mean(self) -> torch.Tensor:
        """0 if nothing counts."""
        count = torch.as_tensor(self.count, device=self.total.device)
        return self.total / torch.where(count > 0, count, torch.ones_like(count))


CountedLoss = Callable[[Any, Any], torch.Tensor | Counted]


def make_loss(
    name: str,
    allowed: Allowed,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    target: str | None = None,
) -> Loss:
    """The loss of a recipe as a scalar: the mean over a batch. See `make_counted_loss`."""
    measured = make_counted_loss(name, allowed, label_smoothing, class_weights, target)

    def loss(outputs: Any, targets: Any) -> torch.Tensor:
        value = measured(outputs, targets)
        return value.mean if isinstance(value, Counted) else value

    return loss


def make_counted_loss(
    name: str,
    allowed: Allowed,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    target: str | None = None,
) -> CountedLoss:
    """The loss of a recipe: one of Hone's names, or the import path of your own function.

    Args:
        name: Of the loss. Your own function returns the mean over the batch's samples, or a pair:
            the sum over what counts, and how much counts.
        allowed: Factories that may be called.
        label_smoothing: Of cross_entropy.
        class_weights: Of cross_entropy.
        target: Of several targets, the one that a loss of Hone's looks at: `data.target`.

    Returns:
        A function of outputs and targets.

    Raises:
        InputError: The import path does not resolve, or is that of a class; on a call: the shapes
            don't fit.
    """
    function: Any = allowed.resolve(name, "train.loss") if ":" in name else _NAMED.get(name)
    if isinstance(function, type):
        module, _, called = name.partition(":")
        raise InputError(
            f"it names the class {called}, expected a function of outputs and targets, or an "
            "object that can be called with them",
            where=f"train.loss: {name}",
            do=f"write `loss = {called}()` in {module}, and train.loss: {module}:loss",
        )
    if name == "cross_entropy":
        function = CrossEntropy(label_smoothing, tuple(class_weights or ()))

    def loss(outputs: Any, targets: Any) -> torch.Tensor | Counted:
        if ":" not in name:
            targets = main_target(targets, target)
        try:
            value = function(outputs, targets)
        except Exception as error:
            if ":" in name and users_line(error) is not None:
                raise raised("the loss", error, f"train.loss: {name}") from error
            if not isinstance(error, RuntimeError | ValueError | IndexError | TypeError):
                raise
            raise InputError(
                f"the loss '{name}' can't take the model's output: {telling(error)}. "
                f"{_outputs(outputs)}; {_targets(targets)}",
                where="train.loss",
                do=_EXPECTS.get(name, "make the model's output and the target fit the loss"),
            ) from error
        return _checked(value, name)

    return loss


def mean_of_parts(loss: CountedLoss, parts: Iterable[tuple[Any, Any]]) -> float:
    """A batch's loss as training computes it from the outputs and targets of its parts."""
    total = count = 0.0
    for outputs, targets in parts:
        found = loss(outputs, targets)
        size = len(main_target(targets))
        if isinstance(found, Counted):
            total, count = total + float(found.total), count + float(found.count)
        else:
            total, count = total + float(found) * size, count + size
    return total / count if count else 0.0


def _checked(value: Any, name: str) -> torch.Tensor | Counted:
    if isinstance(value, tuple) and len(value) == 2 and _is_scalar(value[0]):
        total, count = value
        if _is_scalar(count) or isinstance(count, int | float):
            return Counted(total, count.detach() if isinstance(count, torch.Tensor) else count)
    if isinstance(value, Counted) or _is_scalar(value):
        return value
    raise InputError(
        f"the loss returned {_described(value)}, expected a scalar tensor or a pair of them",
        where=f"train.loss: {name}",
        do="return the mean over the batch; or, if not every sample counts the same, a pair: the "
        "sum over what counts, and how much counts",
    )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 0


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {_shape(value)}"
    return f"a {type(value).__name__}"


def _targets(targets: Any) -> str:
    each = [
        f"{name}: shape {_shape(one)}, {one.dtype}{_range(one)}"
        for name, one in named_targets(targets)
    ]
    return "; ".join(each)


def _outputs(outputs: Any) -> str:
    if isinstance(outputs, torch.Tensor):
        return f"Output: shape {_shape(outputs)}, {outputs.dtype}"
    each = (f"{name} {_shape(one)}, {one.dtype}" for name, one in named_outputs(outputs).items())
    return f"Outputs ({type(outputs).__name__}): {'; '.join(each)}"


def _shape(tensor: torch.Tensor) -> str:
    return str(tuple(tensor.shape))


def _range(targets: torch.Tensor) -> str:
    if targets.is_floating_point() or targets.numel() == 0:
        return ""
    return f", values {int(targets.min())} to {int(targets.max())}"


def _same_shape(function: Loss) -> Loss:
    """Without the silent broadcast of (N, 1) against (N,)."""

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if outputs.shape != targets.shape:
            raise ValueError("output and target differ in shape")
        return function(outputs, targets.to(outputs.dtype))

    return loss


@dataclass(frozen=True)
class CrossEntropy:
    """Over class numbers, of which -100 doesn't count, or probabilities of the outputs' shape.

    Classes are along the axis that `class_axis` says.

    Attributes:
        label_smoothing: Share spread over all classes.
        class_weights: Of each class; empty: all count the same.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> Counted:
        if not targets.is_floating_point():
            targets = targets.long()
        of_class = targets
        if outputs.ndim > 2 and class_axis(outputs.shape, targets.shape) != 1:
            outputs, of_class = outputs.flatten(0, -2), targets.flatten()
        total = F.cross_entropy(
            outputs,
            of_class,
            weight=self._of_classes(outputs),
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        if targets.is_floating_point():
            return Counted(total, float(targets.numel() // targets.shape[1]))
        return Counted(total, self.weights(outputs, of_class).sum())

    def weights(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """How much each position counts; the shape of the class numbers."""
        counts = targets.long() != IGNORED
        of_classes = self._of_classes(outputs)
        if of_classes is None:
            return counts.float()
        return torch.where(counts, of_classes.float()[targets.clamp(min=0).long()], 0.0)

    def _of_classes(self, outputs: torch.Tensor) -> torch.Tensor | None:
        if not self.class_weights:
            return None
        return torch.tensor(self.class_weights, dtype=outputs.dtype, device=outputs.device)


_NAMED: dict[str, Loss] = {
    "mse": _same_shape(F.mse_loss),
    "l1": _same_shape(F.l1_loss),
    "huber": _same_shape(F.huber_loss),
    "bce_with_logits": _same_shape(F.binary_cross_entropy_with_logits),
}
_EXPECTS = {
    "cross_entropy": "it takes logits (N, classes) and integer targets (N,) below the number of "
    "classes, or of sequences (N, T, classes) and (N, T)",
    **dict.fromkeys(
        ("mse", "l1", "huber", "bce_with_logits"), "it takes an output and a target of one shape"
    ),
}
