"""The table of candidates that a run ends with, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ...recipe.measures import BOUNDS, MEASURES, Measure
from ...recipe.schema import Recipe
from ..decide import GateResult, primary_batch
from ..outcome import Candidate, Outcome

#: The measures that the table shows, one per column.
COLUMNS = tuple(measure for measure in MEASURES.values() if measure.header is not None)
HEADERS = ("candidate", *(str(measure.header) for measure in COLUMNS), "gates")


def rows(outcome: Outcome, recipe: Recipe) -> list[tuple[str, ...]]:
    """A row for the baseline and for each candidate, the fastest first."""
    metric = recipe.quality.name
    first = ("PyTorch eager (baseline)", *_cells(outcome.baseline, metric), "")
    return [first, *(_row(candidate, metric) for candidate in ordered(outcome))]


def ordered(outcome: Outcome) -> list[Candidate]:
    """Candidates by latency; those without a measurement last."""
    return sorted(
        outcome.candidates, key=lambda c: (c.metrics.get("latency/p50_ms", float("inf")), c.name)
    )


def headers_for(width: int) -> tuple[str, ...]:
    """The columns that a terminal has room for; `outcome.md` in MLflow has them all."""
    shown = (str(measure.header) for measure in COLUMNS if width >= measure.from_width)
    return (HEADERS[0], *shown, HEADERS[-1])


def _row(candidate: Candidate, metric: str) -> tuple[str, ...]:
    metrics = dict(candidate.metrics)
    if candidate.artifact is not None:  # known before anything is measured
        metrics["size/bytes"] = float(candidate.artifact.bytes)
    return (candidate.name, *_cells(metrics, metric), verdict(candidate))


def _cells(metrics: dict[str, float], metric: str) -> tuple[str, ...]:
    return tuple(cell(measure, metrics, metric) for measure in COLUMNS)


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
    text = measure.format(metrics[name])
    below, above = (metrics.get(f"{name}{bound}") for bound in BOUNDS)
    if not measure.shows_interval or below is None or above is None or below == above:
        return text
    return f"{text} [{measure.format(below)}, {measure.format(above)}]"


def verdict(candidate: Candidate) -> str:
    """`3/3`, the gates that failed, or why there is no measurement."""
    if not candidate.status.is_measured:
        return candidate.status.value
    failed = [gate for gate in candidate.gates if not gate.passed]
    if not failed:
        return f"{len(candidate.gates)}/{len(candidate.gates)} passed"
    return "failed: " + ", ".join(map(failure, failed))


def failure(gate: GateResult) -> str:
    """How a gate failed: `quality.drop 0.031 > 0.02`."""
    sign = ">" if gate.bound == "at_most" else "<"
    value = "?" if gate.value is None else f"{gate.value:.4g}"
    return f"{gate.metric} {value} {sign} {gate.limit:g}"


def markdown(outcome: Outcome, recipe: Recipe) -> str:
    """The whole outcome as Markdown."""
    lines = [f"# {outcome.recipe}", "", headline(outcome), ""]
    lines += _markdown_table(HEADERS, rows(outcome, recipe))
    lines += ["", caption(recipe)]
    failed = [c for c in outcome.candidates if c.error]
    if failed:
        lines += ["", "## Not measured", ""]
        lines += [f"- **{c.name}**: {c.error}" for c in failed]
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
    lines = [headline(outcome), "", *_markdown_table(HEADERS, rows(outcome, recipe))]
    return "\n".join([*lines, "", caption(recipe)])


def headline(outcome: Outcome) -> str:
    """Who won and why, in a sentence."""
    if outcome.champion is None and (outcome.winner is None or outcome.promotion == "auto"):
        return f"No champion: {outcome.why}. The registry was not touched."
    if outcome.champion is None:
        return f"Winner: {outcome.winner} ({_not_promoted(outcome)}): {outcome.why}."
    champion = outcome.champion
    place = f"models:/{champion.model}@{champion.alias}, version {champion.version}"
    if not champion.new:
        place += ", as before"
    return f"Champion: {champion.candidate} ({place}): {outcome.why}."


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


def caption(recipe: Recipe) -> str:
    """What the numbers in the table mean."""
    return (
        f"Latency at batch size {primary_batch(recipe)} with {recipe.benchmark.threads} "
        "threads, each alone in its process; brackets are 95 % intervals."
    ).replace("1 threads", "1 thread")


def _markdown_table(headers: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(headers) + " |",
        "| " + " | ".join("---" for _ in headers) + " |",
        *("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in body),
    ]
