"""Robustness: whose quality is measured under corrupted inputs, and what was found."""

from __future__ import annotations

from ...recipe.proofs import Proofs
from ...recipe.strict import Strict
from .base import Facts, Judged, ThroughRuntime

#: Names of strengths, from 1 on.
STRENGTHS = ("weak", "medium", "strong")


class CorruptedSpec(Judged):
    """The trained model under corrupted inputs.

    Attributes:
        proofs: What is corrupted, and of how many samples.
    """

    proofs: Proofs


class CorruptedFacts(Facts):
    """Attributes:
    not_looked_at: Why nothing was corrupted; None: it was.
    """

    not_looked_at: str | None = None


class RobustnessSpec(CorruptedSpec, ThroughRuntime):
    """A candidate under the same corrupted inputs, through the runtime that would serve it.

    Attributes:
        higher_is_better: Direction of the metric.
    """

    higher_is_better: bool


class UnderCorruption(Strict):
    """Quality under a corruption.

    Attributes:
        corruption: Its name.
        strength: From 1 (weak) to 3 (strong).
        before: Quality of the trained model.
        after: Quality of the candidate.
        drop: How much more the candidate loses by the corruption than the trained model.
        low: Lower bound of its 95 % interval, if it has one.
        high: Upper bound.
    """

    corruption: str
    strength: int
    before: float
    after: float
    drop: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{STRENGTHS[self.strength - 1]} {self.corruption}"


class RobustnessFacts(CorruptedFacts):
    """Attributes:
    kind: What the input is: images, tokens or features.
    samples: How many were corrupted (a count).
    before: Quality of the trained model on these samples as they are.
    after: Quality of the candidate on them.
    conditions: Each corruption at each strength.
    """

    kind: str = ""
    samples: int = 0
    before: float | None = None
    after: float | None = None
    conditions: tuple[UnderCorruption, ...] = ()
