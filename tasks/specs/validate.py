"""Reference and validate: what is evaluated, and through which runtime."""

from __future__ import annotations

from pydantic import Field

from ...recipe.strict import Strict
from .base import Facts, Judged, Spec, ThroughRuntime
from .shown import ShownSample


class ReferenceSpec(Judged):
    """The trained model itself.

    Attributes:
        groups: By what the samples are grouped, as `quality.groups` has it.
    """

    groups: tuple[str, ...] = ()


class ValidateSpec(ThroughRuntime):
    """Attributes:
    flips: Whether answers that flipped are looked at.
    show_samples: Whether a report may show a few of them.
    higher_is_better: Direction of the metric.
    """

    flips: bool = True
    show_samples: bool = True
    higher_is_better: bool


class GroupFact(Strict):
    """The quality of a group of samples.

    Attributes:
        by: What the samples are grouped by.
        group: Its name.
        count: Its samples.
        before: Quality of the trained model.
        after: Quality of the candidate, with its 95 % interval (`low`, `high`), if it has one.
        drop: Loss of quality, paired by sample; positive is worse.
        drop_low: Lower bound of its 95 % interval, if it has one.
        drop_high: Upper bound.
    """

    by: str = "label"
    group: str
    count: int
    before: float
    after: float
    low: float | None
    high: float | None
    drop: float
    drop_low: float | None = None
    drop_high: float | None = None

    @property
    def name(self) -> str:
        """What it is called among the groups of all kinds."""
        return self.group if self.by == "label" else f"{self.by} {self.group}"

    def __str__(self) -> str:
        what = f"label {self.group}" if self.by == "label" else self.name
        bounds = ""
        if self.drop_low is not None and self.drop_high is not None:
            bounds = f" [{self.drop_low:+.4f}, {self.drop_high:+.4f}]"
        return f"{what} (n = {self.count}): {self.before:.4f} to {self.after:.4f}{bounds}"


class FlippedSample(Strict):
    """A sample whose answer flipped.

    Attributes:
        index: In the test split.
        sample: What it is.
        target: Its class, if the answers are classes.
        before: The trained model's answer.
        after: The candidate's.
        margin_before: Logit of the true class above the best other one, in the trained model's
            output: negative where it is wrong.
        margin_after: The same in the candidate's.
    """

    index: int
    sample: ShownSample
    target: int | None = None
    before: int | None = None
    after: int | None = None
    margin_before: float | None = None
    margin_after: float | None = None


class FlipFacts(Strict):
    """Samples that one of two models has right and the other wrong.

    Attributes:
        broken: How many only the trained model has right.
        repaired: How many only the candidate has right.
        count: All samples.
        p_value: Of McNemar's exact test.
        broken_samples: Some indices in the test split of broken samples.
        repaired_samples: The same of repaired ones.
        shown_broken: A few of the broken samples; none if the report may show none.
        shown_repaired: A few of the repaired ones.
    """

    broken: int
    repaired: int
    count: int
    p_value: float
    broken_samples: tuple[int, ...] = ()
    repaired_samples: tuple[int, ...] = ()
    shown_broken: tuple[FlippedSample, ...] = ()
    shown_repaired: tuple[FlippedSample, ...] = ()


class ValidateFacts(Facts):
    """Attributes:
    flips: None if a sample isn't just right or wrong.
    groups: The quality by group, the largest loss first.
    """

    flips: FlipFacts | None = None
    groups: tuple[GroupFact, ...] = ()


class CompareSpec(Spec):
    """Attributes:
    metric: Name of the quality metric.
    higher_is_better: Its direction.
    champion: Number of the version that candidates are compared with.
    digest: Of all files of that version.
    """

    metric: str
    higher_is_better: bool
    champion: str
    digest: str


class CompareFacts(Facts):
    """Attributes:
    drops: Of each candidate, `quality/drop_from_champion` with its interval.
    """

    drops: dict[str, dict[str, float]] = Field(default_factory=dict)
