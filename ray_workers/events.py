"""Events that a running step reports: four kinds, and that it has started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Begun:
    """A worker has started the step; before that, the step waits for free cores."""


@dataclass(frozen=True)
class Progress:
    """Progress within the step.

    Attributes:
        done: Units of work that are done.
        total: All units of work.
        text: What is being done, in a few words.
    """

    done: float
    total: float
    text: str = ""


@dataclass(frozen=True)
class Metric:
    """A point of a curve.

    Attributes:
        name: Its name in MLflow (`train/loss`).
        value: The value.
        step: Its place in the curve (optimizer steps).
        time_ms: When it was measured (ms since 1970).
    """

    name: str
    value: float
    step: int
    time_ms: int


@dataclass(frozen=True)
class Note:
    """A message for the user."""

    text: str


@dataclass(frozen=True)
class EpochEnd:
    """An epoch of training has ended.

    Attributes:
        text: Its loss and quality, on one line.
        done: Epochs that have ended (a count).
        total: Epochs of the whole training.
    """

    text: str
    done: int
    total: int


Event = Begun | Progress | Metric | Note | EpochEnd
Report = Callable[[Event], None]
