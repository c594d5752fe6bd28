"""Today's champion of the registered model, as a run that compares with it found it."""

from __future__ import annotations

from pydantic import Field

from ..recipe.strict import Strict

#: In a verdict: the gate was judged when the registry had no champion.
NO_CHAMPION = "none"


class TodaysChampion(Strict):
    """The version that a run's candidates are compared with.

    Attributes:
        model: The registered model.
        alias: The alias that makes a version the champion.
        version: Its number; None: there is no champion yet, or the registry did not say.
        candidate: `VARIANT@TARGET`, as it was registered.
        digest: Of all files of the version.
        sha256: Of its artifact.
        same_as: Name of the candidate of this run that is the same bytes, if one is: its
            measurements are the champion's.
        problem: Why it could not be measured here; None if it was.
        metrics: What this run measured of it, under MLflow's names.
    """

    model: str
    alias: str
    version: str | None = None
    candidate: str = ""
    digest: str = ""
    sha256: str = ""
    same_as: str | None = None
    problem: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)

    @property
    def is_absent(self) -> bool:
        """Whether the registry has no champion yet."""
        return self.version is None and self.problem is None

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.alias} today: version {self.version}, {self.candidate}"

    @property
    def said(self) -> str:
        """Which version it is, for verdicts."""
        return NO_CHAMPION if self.is_absent else self.version or "unknown"

    @property
    def unmeasured(self) -> str | None:
        """Why there are no numbers of it; None if there are."""
        if self.is_absent:
            return f"no {self.alias} yet"
        if self.problem is not None:
            which = f"version {self.version}, the {self.alias}," if self.version else "the champion"
            return f"{which} can't be compared with: {self.problem}"
        return None
