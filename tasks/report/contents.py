"""The contents of a report: everything that the page of a run shows, as plain data.

It is kept as `report.json` beside the page, so that runs can be compared later without measuring
anything again.
"""

from __future__ import annotations

from pydantic import Field

from ...recipe.schema import Recipe
from ...recipe.strict import Strict
from ..decide import primary_batch
from ..outcome import Candidate, Outcome
from ..specs.benchmark import ScenarioResult, Timing
from ..specs.explanation import ExplainedFacts, ExplanationFacts
from ..specs.layer_parity import LayerParityFacts
from ..specs.robustness import RobustnessFacts
from ..specs.train import Curve
from ..specs.validate import ValidateFacts


class StepMade(Strict):
    """A step of a run, and where its result comes from.

    Attributes:
        label: Its name in the run.
        key: Its cache key (sha256).
        cached: Whether the result of an earlier run was used.
        seconds: How long it took when it was computed (s).
        outputs: sha256 of each artifact that it wrote.
    """

    label: str
    key: str
    cached: bool
    seconds: float
    outputs: dict[str, str] = Field(default_factory=dict)


class DataSaid(Strict):
    """The data set: its name, and the samples of each split (counts)."""

    name: str
    sizes: dict[str, int] = Field(default_factory=dict)


class Report(Strict):
    """What the page of a run shows.

    Attributes:
        outcome: Candidates with their measurements and verdicts, and who won.
        recipe: What was asked for.
        timings: Latencies of candidates and baseline, by name and batch size.
        scenarios: What candidates reached in scenarios, by name and kind.
        curves: Of the training: values by step.
        sensitivity: SQNR with only one layer quantized (dB), by candidate and layer.
        layers: Parity of the layers of each candidate whose graph was compressed.
        judged: Flips, and quality by group, of each candidate that was validated.
        robustness: Quality under corrupted inputs, by candidate.
        explained: What the trained model's answers depend on, if that was looked at.
        explanations: What each candidate's answers depend on.
        left_alone: Layers that compression left as they were, by candidate, each with a reason.
        data: The data set.
        parameters: Of the trained model (a count).
        steps: Every step, in order.
        environment: Versions, processor, commit: by name.
        made: When the run ended (UTC, ISO 8601).
    """

    outcome: Outcome
    recipe: Recipe
    timings: dict[str, dict[str, Timing]] = Field(default_factory=dict)
    scenarios: dict[str, dict[str, ScenarioResult]] = Field(default_factory=dict)
    curves: dict[str, Curve] = Field(default_factory=dict)
    sensitivity: dict[str, dict[str, float]] = Field(default_factory=dict)
    layers: dict[str, LayerParityFacts] = Field(default_factory=dict)
    judged: dict[str, ValidateFacts] = Field(default_factory=dict)
    robustness: dict[str, RobustnessFacts] = Field(default_factory=dict)
    explained: ExplainedFacts | None = None
    explanations: dict[str, ExplanationFacts] = Field(default_factory=dict)
    left_alone: dict[str, dict[str, str]] = Field(default_factory=dict)
    data: DataSaid
    parameters: int
    steps: tuple[StepMade, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    made: str

    @property
    def batch(self) -> int:
        """The batch size that numbers without one belong to."""
        return primary_batch(self.recipe)

    @property
    def measured(self) -> list[Candidate]:
        """Candidates that were measured, in the recipe's order."""
        return [c for c in self.outcome.candidates if c.status.is_measured]

    def timing(self, name: str) -> Timing | None:
        """Of a candidate or of the baseline, at the main batch size."""
        return self.timings.get(name, {}).get(str(self.batch))
