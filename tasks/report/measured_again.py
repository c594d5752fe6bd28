"""What a second session of the benchmark measured of the best few, for people."""

from __future__ import annotations

from ...recipe.measures import milliseconds
from ...recipe.schema import Recipe
from ..outcome import Again, Candidate, Outcome
from .rows import Cell, Row

#: Headings of the table, after the candidate's name.
HEADINGS = ("p50 (ms)", "p50 before (ms)", "× winner's time", "× winner's time before")


def again_rows(outcome: Outcome) -> list[Row]:
    """A row for each candidate that was measured again, the fastest first."""
    found = [c for c in outcome.candidates if c.again is not None]
    found.sort(key=lambda c: c.again.p50_ms if c.again is not None else 0.0)
    return [_row(outcome, candidate, candidate.again) for candidate in found if candidate.again]


def _row(outcome: Outcome, candidate: Candidate, again: Again) -> Row:
    won = candidate.name == outcome.winner
    before = candidate.metrics.get("latency/p50_ms")
    first = again.against_winner_before
    now = None if won or first is None else candidate.against_winner
    cells = (
        Cell(p50(again), again.p50_ms),
        Cell("" if before is None else milliseconds(before), before),
        *(
            Cell("") if c is None else Cell(f"{c.ratio:.3f} [{c.low:.3f}, {c.high:.3f}]", c.ratio)
            for c in (now, first)
        ),
    )
    return Row(candidate.name, cells, "winner" if won else "")


def p50(again: Again) -> str:
    """The latency with its interval: `0.120 [0.118, 0.121]`."""
    low, high = milliseconds(again.p50_ms_low), milliseconds(again.p50_ms_high)
    return f"{milliseconds(again.p50_ms)} [{low}, {high}]"


def in_words(outcome: Outcome, recipe: Recipe) -> str:
    """What was found when the best few were measured again, or that nobody looked; may be empty."""
    if outcome.confirmed:
        return f"{outcome.confirmed[0].upper()}{outcome.confirmed[1:]}."
    if not recipe.benchmark.confirm:
        return "The best candidates were not measured again (benchmark.confirm is false)."
    return ""
