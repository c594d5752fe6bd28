"""What training reports: metrics by step, live progress, and epochs."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..events import EpochEnd, Metric, Note, Progress, Report
from .checkpoints import Checkpoints

_LIVE_SECONDS = 0.3


class Log:
    """Rank 0's events, and the history of metrics that goes with the checkpoints.

    After a recovery the history is sent again with its original timestamps, so that a run that is
    resumed elsewhere has the whole curve, each step once.

    Args:
        report: Receives events.
        enabled: Whether this worker reports.
        checkpoints: Store the history.
        epochs: Of the whole training.
        steps: Of the whole training.
    """

    def __init__(
        self, report: Report, enabled: bool, checkpoints: Checkpoints, epochs: int, steps: int
    ) -> None:
        self._report = report
        self._enabled = enabled
        self._checkpoints = checkpoints
        self.epochs = epochs
        self._steps = steps
        self._last_live = 0.0
        self._started = time.perf_counter()
        self._first_step: int | None = None
        self._unsaved: list[Metric] = []
        self._rate = 0.0

    def metric(self, name: str, value: float, step: int) -> None:
        if self._enabled:
            event = Metric(name, value, step, int(time.time() * 1000))
            self._unsaved.append(event)
            self._report(event)

    def metrics(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.metric(name, value, step)

    def saved(self, step: int) -> None:
        """A checkpoint was saved; it contains everything that was reported so far."""
        if self._enabled:
            self._checkpoints.add_history(step, self._unsaved)
            self._unsaved = []

    def restore(self, step: int) -> None:
        """Send again everything up to a checkpoint."""
        if self._enabled:
            for event in self._checkpoints.history(step):
                self._report(event)

    def note(self, text: str) -> None:
        if self._enabled:
            self._report(Note(text))

    def live(
        self, epoch: int, step: int, loss: float, samples: int, memory: Callable[[], str]
    ) -> None:
        """Progress, a few times a second.

        Args:
            epoch: From 0.
            step: Steps done.
            loss: Of the last step.
            samples: In the last step.
            memory: Tells that of a worker, as text.
        """
        now = time.perf_counter()
        if self._first_step is None:
            self._first_step, self._started = step, now
            return
        if not self._enabled or now - self._last_live < _LIVE_SECONDS:
            return
        self._last_live = now
        each = (now - self._started) / (step - self._first_step)
        left = each * (self._steps - step)
        text = (
            f"epoch {epoch + 1}/{self.epochs}, step {step}/{self._steps}, loss {loss:.4f}, "
            f"{samples / each:,.0f} samples/s, {memory()} a worker, {left:.0f} s left"
        )
        self._report(Progress(step, self._steps, text))

    def epoch(self, epoch: int, loss: float, metric: str, quality: float) -> None:
        if self._enabled:
            text = (
                f"epoch {epoch + 1}/{self.epochs}: loss {loss:.4f}, validation {metric} "
                f"{quality:.4f}"
            )
            self._report(EpochEnd(text, epoch + 1, self.epochs))
