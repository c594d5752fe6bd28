"""What a running step tells whoever watches: four kinds of events, and that it has begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Begun:
    """A worker has started on the step; until then it waits for free cores."""


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Attributes:
        done: Units of work that are done.
        total: Of so many.
        text: What it is at, in a few words.
    """

    done: float
    total: float
    text: str = ""


@dataclass(frozen=True)
class Metric:
    """A number of a curve.

    Attributes:
        name: Under MLflow's name (`train/loss`).
        value: The number.
        step: Its place in the curve (optimizer steps).
        time_ms: When it was measured (ms since 1970).
    """

    name: str
    value: float
    step: int
    time_ms: int


@dataclass(frozen=True)
class Note:
    """A sentence for the user."""

    text: str


@dataclass(frozen=True)
class EpochEnd:
    """An epoch of training is over.

    Attributes:
        text: Its loss and quality, in a line.
        done: Epochs that are over (a count).
        total: Of the whole training.
    """

    text: str
    done: int
    total: int


Event = Begun | Progress | Metric | Note | EpochEnd
Report = Callable[[Event], None]
