"""The flipped samples that a report shows."""

from __future__ import annotations

from dataclasses import dataclass

from ..specs.validate import FlippedSample
from .contents import Report


@dataclass(frozen=True)
class FlippedShown:
    """Samples of a candidate whose answer flipped: now wrong, and now right."""

    broken: tuple[FlippedSample, ...]
    repaired: tuple[FlippedSample, ...]

    @property
    def ways(self) -> tuple[tuple[str, tuple[FlippedSample, ...]], ...]:
        """Both ways, with what they are called; those that there are."""
        both = (("now wrong", self.broken), ("now right", self.repaired))
        return tuple((name, samples) for name, samples in both if samples)


def flipped_samples(report: Report) -> dict[str, FlippedShown]:
    """By candidate, the winner first; only those of which a sample flipped."""
    found = {
        name: FlippedShown(facts.flips.shown_broken, facts.flips.shown_repaired)
        for name, facts in report.judged.items()
        if facts.flips is not None
    }
    shown = [(name, both) for name, both in found.items() if both.ways]
    return dict(sorted(shown, key=lambda pair: pair[0] != report.outcome.winner))
