"""Two runs beside each other: one HTML page of what differs in candidates, recipe and machine."""

from __future__ import annotations

import difflib

from ...recipe.measures import MEASURES
from .contents import Report
from .page import recipe_text, render
from .rows import Cell, Row
from .table import cell, headline, verdict

#: Measures that are compared, with the heading of each.
_COMPARED = (
    ("quality.value", "quality"),
    ("quality.drop", "drop"),
    ("latency.p50_ms", "p50 (ms)"),
    ("latency.ratio", "× eager"),
    ("size.bytes", "size"),
)


def comparison(one: Report, other: Report) -> str:
    """The page that compares two runs.

    Args:
        one: The first run, A.
        other: The second run, B.
    """
    return render(
        "comparison.html.j2",
        one=one,
        other=other,
        verdicts=(headline(one.outcome), headline(other.outcome)),
        headers=[f"{heading} {run}" for _, heading in _COMPARED for run in "AB"]
        + ["gates A", "gates B"],
        rows=compared_rows(one, other),
        environment=differing(one.environment, other.environment),
        recipe=recipe_difference(one, other),
    )


def compared_rows(one: Report, other: Report) -> list[Row]:
    """A row for each candidate of either run, those of both first."""
    left = {c.name: c for c in one.outcome.candidates}
    right = {c.name: c for c in other.outcome.candidates}
    names = sorted({*left, *right}, key=lambda name: (name not in left or name not in right, name))
    rows = []
    for name in names:
        pair = (left.get(name), right.get(name))
        metrics = [dict(c.metrics) if c is not None else {} for c in pair]
        for found, candidate in zip(metrics, pair, strict=True):
            if candidate is not None and candidate.artifact is not None:
                found["size/bytes"] = float(candidate.artifact.bytes)
        cells = [
            Cell(
                cell(MEASURES[measure], found, report.recipe.quality.name),
                found.get(MEASURES[measure].mlflow(report.recipe.quality.name)),
            )
            for measure, _ in _COMPARED
            for found, report in zip(metrics, (one, other), strict=True)
        ]
        cells += [Cell("not in this run" if c is None else verdict(c)) for c in pair]
        won = name in (one.outcome.winner, other.outcome.winner)
        rows.append(Row(name, tuple(cells), "winner" if won else ""))
    return rows


def differing(one: dict[str, str], other: dict[str, str]) -> list[tuple[str, str, str]]:
    """Name, and both values, of everything that differs."""
    names = dict.fromkeys([*one, *other])
    both = [(name, one.get(name, ""), other.get(name, "")) for name in names]
    return [row for row in both if row[1] != row[2]]


def recipe_difference(one: Report, other: Report) -> str:
    """The difference of the recipes, as `diff -u` shows it; empty if there is none."""
    left, right = (recipe_text(report).splitlines() for report in (one, other))
    return "\n".join(difflib.unified_diff(left, right, "A", "B", lineterm=""))
