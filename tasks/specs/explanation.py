"""Explanation: whose answers are explained, and how far two models agree."""

from __future__ import annotations

from ...recipe.proofs import Proofs
from ...recipe.strict import Strict
from .base import Facts, Judged, ThroughRuntime
from .shown import ShownSample


class ExplainedSpec(Judged):
    """The answers of the trained model.

    Attributes:
        proofs: What is occluded, in how many samples, and whether the report may show them.
    """

    proofs: Proofs


class ExplanationSpec(ExplainedSpec, ThroughRuntime):
    """The same answers of a candidate, through the runtime that would serve it."""


class Attribution(Strict):
    """What an answer depends on.

    Attributes:
        index: Of the sample in the test split.
        rows: Regions of an image down its side; 1 for tokens and features.
        values: Of each region, how much the answer loses without it, as a share of the largest
            such loss of the sample, row by row.
        names: Of tokens and features, what each region is.
        sample: The sample; None: the report may not show it.
    """

    index: int
    rows: int
    values: tuple[float, ...]
    names: tuple[str, ...] = ()
    sample: ShownSample | None = None


class ExplainedFacts(Facts):
    """Attributes:
    not_looked_at: Why nothing was explained; None: it was.
    kind: What the input is: images, tokens or features.
    shown: A few samples.
    """

    not_looked_at: str | None = None
    kind: str = ""
    shown: tuple[Attribution, ...] = ()


class ExplanationFacts(ExplainedFacts):
    """Attributes:
    samples: How many were compared (a count).
    constant: How many were left out, because no region changes the trained model's answer.
    agreements: Rank correlation of each shown sample.
    """

    samples: int = 0
    constant: int = 0
    agreements: tuple[float, ...] = ()
