"""What a report shows of robustness and explanations: rows of tables, pictures in pairs, bars."""

from __future__ import annotations

import base64
import io
from collections.abc import Container
from dataclasses import dataclass

from ..outcome import Candidate
from ..specs.explanation import Attribution
from .contents import Report
from .rows import Cell, Row

#: Bars of a sample: the regions that matter most to either model.
_MOST_BARS = 8
#: Colors of what speaks for an answer and against it (red, green, blue).
_FOR, _AGAINST = (240, 110, 20), (40, 120, 240)


@dataclass(frozen=True)
class Bar:
    """What a region is, and how much it matters to each model (-1 to 1)."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class PairShown:
    """A sample with what the answers of two models depend on.

    Attributes:
        index: Of the sample in the test split.
        agreement: Rank correlation of the two.
        text: The sample as text, if it is no picture.
        picture: URL of the sample's picture, if it is one.
        before: URL of the regions that the trained model's answer depends on.
        after: URL of those of the candidate's.
        bars: Instead of pictures, the regions that matter most.
    """

    index: int
    agreement: float
    text: str | None = None
    picture: str | None = None
    before: str | None = None
    after: str | None = None
    bars: tuple[Bar, ...] = ()


def robustness_rows(report: Report) -> list[Row]:
    """What each candidate loses under corruptions, the winner first."""
    rows = []
    for candidate in _looked_at(report, "robustness/worst_drop", report.robustness):
        facts = report.robustness[candidate.name]
        worst = max(facts.conditions, key=lambda one: one.drop)
        strongest = [c for c in facts.conditions if c.strength == 3]
        cells = (
            _bounded(candidate, "robustness/worst_drop", "{:+.4f}"),
            Cell(str(worst)),
            _bounded(candidate, "robustness/mean_drop", "{:+.4f}"),
            *(Cell(f"{c.after:.4f} ({c.before:.4f})", c.after) for c in strongest),
        )
        rows.append(Row(candidate.name, cells, _kind(report, candidate)))
    return rows


def robustness_headers(report: Report) -> list[str]:
    """The headings of its columns."""
    facts = next((one for one in report.robustness.values() if one.conditions), None)
    strongest = [] if facts is None else [c for c in facts.conditions if c.strength == 3]
    return [
        "largest loss", "by", "mean loss", *(f"strong {c.corruption} (trained)" for c in strongest),
    ]  # fmt: skip


def explanation_rows(report: Report) -> list[Row]:
    """How far each candidate's answers depend on the same regions, the winner first."""
    rows = []
    for candidate in _looked_at(report, "explanation/agreement", report.explanations):
        facts = report.explanations[candidate.name]
        cells = (
            _bounded(candidate, "explanation/agreement", "{:.3f}"),
            _bounded(candidate, "explanation/top_overlap", "{:.3f}"),
            Cell(str(facts.samples), facts.samples),
        )
        rows.append(Row(candidate.name, cells, _kind(report, candidate)))
    return rows


def explained_pairs(report: Report) -> dict[str, list[PairShown]]:
    """Samples with what the trained model and each candidate look at, the winner's first."""
    if report.explained is None:
        return {}
    trained = {one.index: one for one in report.explained.shown}
    found = {}
    for candidate in _looked_at(report, "explanation/agreement", report.explanations):
        facts = report.explanations[candidate.name]
        pairs = [
            _pair(trained[after.index], after, agreement)
            for after, agreement in zip(facts.shown, facts.agreements, strict=True)
            if after.index in trained
        ]
        if pairs:
            found[candidate.name] = pairs
    return found


def _looked_at(report: Report, metric: str, facts: Container[str]) -> list[Candidate]:
    """Candidates with a metric and facts, the winner first."""
    found = [c for c in report.outcome.candidates if metric in c.metrics and c.name in facts]
    return sorted(found, key=lambda c: c.name != report.outcome.winner)


def _kind(report: Report, candidate: Candidate) -> str:
    return "winner" if candidate.name == report.outcome.winner else ""


def _bounded(candidate: Candidate, name: str, shown: str) -> Cell:
    value, low, high = (candidate.metrics.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return Cell("")
    text = shown.format(value + 0.0)
    if low is not None and high is not None:
        text += f" [{shown.format(low)}, {shown.format(high)}]"
    return Cell(text, value)


def _pair(before: Attribution, after: Attribution, agreement: float) -> PairShown:
    sample = before.sample
    picture = None if sample is None or sample.picture is None else _url(sample.picture)
    text = None if sample is None else sample.text
    if before.rows > 1:
        return PairShown(before.index, agreement, text, picture, _heat(before), _heat(after))
    order = sorted(
        range(len(before.values)), key=lambda i: -max(abs(before.values[i]), abs(after.values[i]))
    )
    bars = tuple(
        Bar(before.names[i] if before.names else str(i), before.values[i], after.values[i])
        for i in order[:_MOST_BARS]
    )
    return PairShown(before.index, agreement, text, picture, bars=bars)


def _heat(attribution: Attribution) -> str:
    """A PNG with a pixel for each region, to be laid over the sample's picture."""
    from PIL import Image

    width = len(attribution.values) // attribution.rows
    image = Image.new("RGBA", (width, attribution.rows))
    for place, value in enumerate(attribution.values):
        color = (*(_FOR if value > 0 else _AGAINST), round(215 * min(1.0, abs(value))))
        image.putpixel((place % width, place // width), color)
    written = io.BytesIO()
    image.save(written, "png", optimize=True)
    return _url(base64.b64encode(written.getvalue()).decode())


def _url(png: str) -> str:
    return f"data:image/png;base64,{png}"
