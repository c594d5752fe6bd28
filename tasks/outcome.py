"""The outcome of a run: what `hone run --json` prints and the table shows."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from ..recipe.measures import find_measure
from ..recipe.schema import PromotionMode
from ..recipe.strict import Strict
from .decide import Compared, GateResult
from .todays_champion import TodaysChampion


class CandidateStatus(StrEnum):
    """How far a candidate got."""

    PASSED = "passed"
    """It was measured and passed every gate."""
    GATED = "gated"
    """It was measured, but a gate failed."""
    FAILED = "failed"
    """One of its steps failed."""
    UNCHANGED = "unchanged"
    """One of its passes found nothing to change."""
    SKIPPED = "skipped"
    """Its target does not run on this machine."""

    @property
    def is_measured(self) -> bool:
        return self in (CandidateStatus.PASSED, CandidateStatus.GATED)


class ArtifactSaid(Strict):
    """Where a candidate's bytes are."""

    uri: str
    sha256: str
    bytes: int


class Again(Strict):
    """What a second session of the benchmark measured of a candidate, in fresh processes.

    Attributes:
        p50_ms: Median latency at the main batch size (ms), with its 95 % interval.
        against_winner_before: Its time as a multiple of the winner's in the first session.
    """

    p50_ms: float
    p50_ms_low: float
    p50_ms_high: float
    against_winner_before: Compared | None = None


class Candidate(Strict):
    """A variant compiled for a target, and all of its measurements.

    Attributes:
        name: `VARIANT@TARGET`.
        variant: Name of the variant.
        target: Name of the target.
        status: How far it got.
        error: Why it failed or was skipped.
        artifact: Its bytes.
        metrics: Under MLflow's names.
        unmeasured: Measures without a number, each with why in a word or two.
        gates: The result of each gate.
        notes: Notes of its steps.
        against_winner: How long it takes as a multiple of the winner's time, in the last session
            that timed both.
        again: What was measured of it in fresh processes before one won; None: it was not.
        suspicious: Why its quality is too good to be believed without a look; None if it is not.
        departs: Where its outputs depart from the trained model's, and what helps; None if they
            are near.
        worst_group: The group that lost most quality, with its number of samples and the interval
            of its loss; None if none lost any, or it was not looked at.
    """

    name: str
    variant: str
    target: str
    status: CandidateStatus
    error: str | None = None
    artifact: ArtifactSaid | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    unmeasured: dict[str, str] = Field(default_factory=dict)
    gates: tuple[GateResult, ...] = ()
    notes: tuple[str, ...] = ()
    against_winner: Compared | None = None
    again: Again | None = None
    suspicious: str | None = None
    departs: str | None = None
    worst_group: str | None = None

    @property
    def failed_gates(self) -> tuple[GateResult, ...]:
        return tuple(gate for gate in self.gates if not gate.passed)


class Champion(Strict):
    """The winner in the registry."""

    candidate: str
    model: str
    version: str
    alias: str
    new: bool
    previous: str | None


class Pending(Strict):
    """The winner, registered as a version whose alias has not moved.

    Attributes:
        candidate: Its name.
        model: The registered model.
        version: Its version.
        alias: The alias that a promotion would move.
        current: The version that has the alias; None if none has.
    """

    candidate: str
    model: str
    version: str
    alias: str
    current: str | None


class Outcome(Strict):
    """The result of a run.

    Attributes:
        recipe: Name of the recipe.
        recipe_digest: Of all its fields.
        run_id: MLflow's id of the parent run.
        winner: Name of the candidate that wins, whether or not it has been promoted yet.
        champion: The winner in the registry; None: the registry is unchanged.
        promotion: What is done with the winner, as the recipe asks; `approve` in place of `auto` if
            the winner is suspicious.
        pending: The winner in the registry, if its alias has not moved: a dry run, or one that a
            person has to approve.
        why: Why it won, or why none did.
        baseline: Measurements of the trained model in PyTorch eager.
        candidates: All of them, in the recipe's order.
        seconds: Duration of each step that was computed (s).
        cached: Steps whose cached result was used.
        notes: Notes about the whole run.
        today: Today's champion before this run, if the recipe compares with it.
        select: The measure that selects, as the recipe has it.
        metric: Name of the recipe's metric.
        gates_by: Whose gates they are: the recipe's, the defaults, or none.
        confirmed: What was found when the best few were measured again; empty if they were not.
        not_looked_at: What was not looked at, each with the reason.
    """

    recipe: str
    recipe_digest: str
    run_id: str
    winner: str | None = None
    champion: Champion | None = None
    promotion: PromotionMode = "auto"
    pending: Pending | None = None
    why: str
    baseline: dict[str, float]
    candidates: tuple[Candidate, ...]
    seconds: dict[str, float]
    cached: tuple[str, ...]
    notes: tuple[str, ...] = ()
    today: TodaysChampion | None = None
    select: str = ""
    metric: str = ""
    gates_by: Literal["recipe", "default", "none"] = "recipe"
    confirmed: str = ""
    not_looked_at: tuple[str, ...] = ()

    @property
    def is_of_speed(self) -> bool:
        """Whether candidates are selected by what the rounds of the benchmark compare."""
        measure = find_measure(self.select)
        return measure is not None and measure.of_median

    @property
    def winning(self) -> Candidate | None:
        """The candidate that wins."""
        return next((c for c in self.candidates if c.name == self.winner), None)

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
