"""What all workers agree on after a step: the loss, how much counted, whether one wants to stop.

One small reduction. On a GPU its result is read while the next step runs, so that no step waits.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass

import torch

from ...recipe.errors import StepFailed
from .checkpoints import Checkpoints
from .gradients import scale
from .parallel.axes import Axes
from .parallel.parallelize import Placed

_SPIKE_WINDOW = 50


@dataclass(frozen=True)
class Agreed:
    """The same on every worker; scalars on its device.

    Attributes:
        loss: Mean over what counts in the whole batch; 0 if nothing counts.
        factor: What gradients are multiplied by.
        stops: Above 0 if any worker was asked to stop.
    """

    loss: torch.Tensor
    factor: torch.Tensor
    stops: torch.Tensor


def agree(loss: torch.Tensor, counted: torch.Tensor, stop: bool, axes: Axes) -> Agreed:
    """Reduce a step's loss over the workers.

    Args:
        loss: Weighted loss of this worker's samples.
        counted: How much counted in it (`StepRunner.counted`).
        stop: Whether this worker was asked to stop.
        axes: Its place.
    """
    asked = torch.full((), float(stop), device=axes.device)
    values = torch.stack([loss.float(), counted.float().to(axes.device), asked])
    if not axes.is_last_stage or axes.at["tensor"] != 0:
        values[:2] = 0
    values = axes.everywhere(values)
    parts = axes.readers * axes["context"]
    factor = torch.where(values[1] > 0, parts / values[1], torch.zeros_like(values[1]))
    mean = torch.where(values[1] > 0, values[0] * factor / parts, values[0])
    return Agreed(mean, factor, values[2])


def divide(placed: Placed, agreed: Agreed) -> None:
    """Make the gradients those of the mean over what counts in the whole batch."""
    factor = agreed.factor
    if factor.device.type == "cpu" and abs(float(factor) - 1) < 5e-7:
        return
    scale(placed.parts, factor)


@dataclass(frozen=True)
class Passed:
    """A step whose numbers have not been read yet.

    Attributes:
        step: Which.
        epoch: Which.
        agreed: Its loss.
        norm: Of its gradient.
        rate: Learning rate.
    """

    step: int
    epoch: int
    agreed: Agreed
    norm: torch.Tensor
    rate: float


class LossWatch:
    """Stops at a loss that is not finite, or far above the recent ones.

    Args:
        spike: How many times the recent median is too much; None: any.
        checkpoints: To say which one is the last good one.
    """

    def __init__(self, spike: float | None, checkpoints: Checkpoints) -> None:
        self._spike = spike
        self._checkpoints = checkpoints
        self._recent: deque[float] = deque(maxlen=_SPIKE_WINDOW)

    def look(self, loss: float, step: int, epoch: int) -> None:
        """Look at a step's loss.

        Raises:
            StepFailed: It is not finite, or a spike.
        """
        recent, problem = self._recent, None
        if not math.isfinite(loss):
            problem = f"the loss became {loss} at step {step} (epoch {epoch + 1})"
        elif self._spike is not None and len(recent) == recent.maxlen:
            usual = statistics.median(recent)
            if loss > self._spike * usual > 0:
                problem = (
                    f"the loss leapt to {loss:.4g} at step {step} (epoch {epoch + 1}), more than "
                    f"{self._spike:g} times the median of the last {len(recent)} steps "
                    f"({usual:.4g})"
                )
        recent.append(loss)
        if problem is not None:
            self._checkpoints.wait()
            raise StepFailed(
                problem,
                where="train",
                do="lower optimizer.lr, add schedule.warmup or clip_grad_norm. " + self._kept(),
            )

    def _kept(self) -> str:
        saved = self._checkpoints.all()
        if not saved:
            return "No checkpoint was made before it."
        return f"The last good checkpoint is kept: {saved[-1].path} (epoch {saved[-1].epoch})"
