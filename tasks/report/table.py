"""The table of candidates that a run ends with, for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...recipe.measures import BOUNDS, MEASURES, Measure
from ...recipe.schema import Recipe
from ..decide import GateResult, primary_batch
from ..outcome import Candidate, Outcome
from .measured_again import in_words

#: The measures that the table shows, one per column; those that compare with today's champion
#: only where there is one, and those of a scenario only where it was asked for.
_COLUMNS = tuple(measure for measure in MEASURES.values() if measure.header is not None)


def columns(outcome: Outcome) -> tuple[Measure, ...]:
    """The measures that have a column."""
    compares = outcome.today is not None and outcome.today.unmeasured is None
    measured = {name for candidate in outcome.candidates for name in candidate.metrics}
    asked = {name for candidate in outcome.candidates for name in candidate.unmeasured}
    return tuple(
        measure
        for measure in _COLUMNS
        if (compares or not measure.is_of_champion)
        and (measure.scenario is None or measure.mlflow("") in measured or measure.name in asked)
    )


def headers(outcome: Outcome, width: int | None = None) -> tuple[str, ...]:
    """The headers of the columns that a terminal has room for; of all of them without a width."""
    shown = [m for m in columns(outcome) if width is None or width >= m.from_width]
    return ("candidate", *(str(measure.header) for measure in shown), "gates")


def rows(outcome: Outcome, recipe: Recipe) -> list[tuple[str, ...]]:
    """A row for the baseline, for today's champion if it was measured, and for each candidate, the
    fastest first.
    """
    metric, shown = recipe.quality.name, columns(outcome)
    first = [("PyTorch eager (baseline)", *_cells(outcome.baseline, metric, shown), "")]
    today = outcome.today
    if today is not None and today.unmeasured is None:
        first.append((today.name, *_cells(today.metrics, metric, shown), ""))
    return [*first, *(_row(candidate, metric, shown) for candidate in ordered(outcome))]


def ordered(outcome: Outcome) -> list[Candidate]:
    """Candidates by latency; those without a measurement last."""
    return sorted(
        outcome.candidates, key=lambda c: (c.metrics.get("latency/p50_ms", float("inf")), c.name)
    )


def _row(candidate: Candidate, metric: str, shown: Sequence[Measure]) -> tuple[str, ...]:
    metrics = dict(candidate.metrics)
    if candidate.artifact is not None:  # known before anything is measured
        metrics["size/bytes"] = float(candidate.artifact.bytes)
    cells = _cells(metrics, metric, shown)
    told = [
        text or candidate.unmeasured.get(measure.name, "")
        for text, measure in zip(cells, shown, strict=True)
    ]
    return (candidate.name, *told, verdict(candidate))


def _cells(metrics: dict[str, float], metric: str, shown: Sequence[Measure]) -> tuple[str, ...]:
    return tuple(cell(measure, metrics, metric) for measure in shown)


def cell(measure: Measure, metrics: dict[str, float], metric: str) -> str:
    """A value, with its 95 % interval if it has one; empty if it was not measured.

    Args:
        measure: The measure.
        metrics: Measurements, under MLflow's names.
        metric: Name of the recipe's metric.
    """
    name = measure.mlflow(metric)
    if name not in metrics:
        return ""
    shown = _as_fine_as_quality(measure, metrics, metric)
    text = shown(metrics[name])
    below, above = (metrics.get(f"{name}{bound}") for bound in BOUNDS)
    if not measure.shows_interval or below is None or above is None or below == above:
        return text
    return f"{text} [{shown(below)}, {shown(above)}]"


def _as_fine_as_quality(
    measure: Measure, metrics: dict[str, float], metric: str
) -> Callable[[float], str]:
    """A measure's format; more decimals where four say little, of an error of 0.0005 say."""
    quality = abs(metrics.get(MEASURES["quality.value"].mlflow(metric), 1.0))
    if measure.unit != MEASURES["quality.value"].unit or not 0 < quality < 0.01:
        return measure.format
    decimals = 3 - math.floor(math.log10(quality))
    sign = "+" if measure.format(1.0).startswith("+") else ""
    return f"{{:{sign}.{decimals}f}}".format


def verdict(candidate: Candidate) -> str:
    """`3/3`, the gates that failed, or why there is no measurement."""
    if not candidate.status.is_measured:
        return candidate.status.value
    doubt = ", suspicious" if candidate.suspicious else ""
    if candidate.failed_gates:
        return "failed: " + ", ".join(map(failure, candidate.failed_gates)) + doubt
    if not candidate.gates:
        return f"no gates{doubt}"
    return f"{len(candidate.gates)}/{len(candidate.gates)} passed{doubt}"


def failure(gate: GateResult) -> str:
    """How a gate failed: `quality.drop 0.031 > 0.02`."""
    sign = ">" if gate.bound == "at_most" else "<"
    value = "?" if gate.value is None else f"{gate.value:.4g}"
    told = f"{gate.metric} {value} {sign} {gate.limit:.4g}"
    return f"{told} ({gate.said})" if gate.said else told


def departures(outcome: Outcome) -> list[tuple[str, str]]:
    """The candidates that were not chosen and are far from the trained model, each with where it
    departs and what helps; those that passed every gate are what the recipe asks for.
    """
    return [
        (candidate.name, candidate.departs)
        for candidate in ordered(outcome)
        if candidate.departs and (candidate.failed_gates or not candidate.gates)
    ]


def markdown(outcome: Outcome, recipe: Recipe) -> str:
    """The whole outcome as Markdown."""
    lines = [f"# {outcome.recipe}", "", headline(outcome), ""]
    lines += _markdown_table(headers(outcome), rows(outcome, recipe))
    lines += ["", caption(recipe, outcome)]
    if said := in_words(outcome, recipe):
        lines += ["", said]
    failed = [c for c in outcome.candidates if c.error]
    if failed:
        lines += ["", "## Not measured", ""]
        lines += [f"- **{c.name}**: {c.error}" for c in failed]
    if far := departures(outcome):
        lines += ["", "## Far from the trained model", ""]
        lines += [f"- **{name}**: {said}" for name, said in far]
    notes = list(dict.fromkeys([*outcome.notes]))
    if notes:
        lines += ["", "## Notes", ""]
        lines += [f"- {note}" for note in notes]
    if outcome.seconds:
        lines += ["", "## Time of each step", ""]
        lines += _markdown_table(
            ("step", "seconds"), [(label, f"{s:.1f}") for label, s in outcome.seconds.items()]
        )
    return "\n".join(lines) + "\n"


def markdown_table(outcome: Outcome, recipe: Recipe) -> str:
    """Who won, and the table: short enough for the description of an MLflow run."""
    lines = [headline(outcome), "", *_markdown_table(headers(outcome), rows(outcome, recipe))]
    return "\n".join([*lines, "", caption(recipe, outcome)])


def headline(outcome: Outcome) -> str:
    """Who won and why, in a sentence."""
    return ": ".join(headline_parts(outcome))


def headline_parts(outcome: Outcome) -> tuple[str, str]:
    """Who won, and why."""
    why = _stopped(outcome.why)
    if outcome.champion is None and (outcome.winner is None or outcome.promotion == "auto"):
        return "No champion", f"{why} The registry was not touched."
    if outcome.champion is None:
        return f"Winner: {outcome.winner} ({_not_promoted(outcome)})", why
    champion = outcome.champion
    place = f"models:/{champion.model}@{champion.alias}, version {champion.version}"
    if not champion.new:
        place += ", as before"
    return f"Champion: {champion.candidate} ({place})", why


def _stopped(sentence: str) -> str:
    """A sentence with one full stop at its end."""
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _not_promoted(outcome: Outcome) -> str:
    """What became of a winner that is not the champion."""
    pending = outcome.pending
    if pending is None:
        return "not registered: promotion is off"
    place = f"models:/{pending.model} version {pending.version}"
    move = f"@{pending.alias} " + (
        f"from version {pending.current}" if pending.current else "to its first version"
    )
    if outcome.promotion == "dry-run":
        return f"{place}; dry run: a promotion would move {move}"
    return f"{place} awaits approval to move {move}"


def caption(recipe: Recipe, outcome: Outcome) -> str:
    """What the numbers in the table mean, and whose the gates are."""
    threads = recipe.benchmark.threads
    said = (
        f"Latency at batch size {primary_batch(recipe)} with {threads} "
        f"thread{'' if threads == 1 else 's'}, each alone in its process; brackets are 95 % "
        "intervals."
    )
    if outcome.gates_by == "default":
        said += (
            " The gates are the defaults, because the recipe has none: quality lost, uncompressed "
            "candidates within rounding, nothing slower and larger (gates: none turns them off)."
        )
    elif outcome.gates_by == "none":
        said += " There are no gates: the recipe says gates: none."
    if outcome.not_looked_at:
        said += f" Not looked at: {'; '.join(outcome.not_looked_at)}."
    if outcome.today is not None and outcome.today.unmeasured is not None:
        said += " " + _stopped(f"Gates that compare with the champion: {outcome.today.unmeasured}")
    return said


def _markdown_table(headers: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(headers) + " |",
        "| " + " | ".join("---" for _ in headers) + " |",
        *("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in body),
    ]
