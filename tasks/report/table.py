"""The table of candidates that a run ends with, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ...recipe.schema import Recipe
from ..decide import primary_batch
from ..outcome import Candidate, Outcome

HEADERS = (
    "candidate", "quality", "drop", "p50 (ms)", "p99 (ms)", "× eager", "× best uncompressed",
    "size", "SQNR", "gates",
)  # fmt: skip


def rows(outcome: Outcome, recipe: Recipe) -> list[tuple[str, ...]]:
    """A row for the baseline and for each candidate, the fastest first."""
    key = f"quality/{recipe.quality.name}"
    first = (
        "PyTorch eager (baseline)",
        _interval(outcome.baseline, key, "{:.4f}"),
        "",
        _interval(
            outcome.baseline, "latency/p50_ms", "{:.3f}", low="p50_low_ms", high="p50_high_ms"
        ),
        _number(outcome.baseline, "latency/p99_ms", "{:.3f}"),
        "1",
        "",
        size(outcome.baseline.get("size/bytes")),
        "",
        "",
    )
    return [first, *(_row(candidate, key) for candidate in ordered(outcome))]


def ordered(outcome: Outcome) -> list[Candidate]:
    """Candidates by latency; those without a measurement last."""
    return sorted(
        outcome.candidates, key=lambda c: (c.metrics.get("latency/p50_ms", float("inf")), c.name)
    )


def _row(candidate: Candidate, key: str) -> tuple[str, ...]:
    metrics = candidate.metrics
    return (
        candidate.name,
        _interval(metrics, key, "{:.4f}"),
        _number(metrics, "quality/drop", "{:+.4f}"),
        _interval(metrics, "latency/p50_ms", "{:.3f}", low="p50_low_ms", high="p50_high_ms"),
        _number(metrics, "latency/p99_ms", "{:.3f}"),
        _interval(metrics, "latency/ratio", "{:.2f}"),
        _interval(metrics, "latency/ratio_to_uncompressed", "{:.2f}"),
        size(candidate.artifact.bytes if candidate.artifact else None),
        _number(metrics, "parity/sqnr_db", "{:.0f} dB"),
        verdict(candidate),
    )


def verdict(candidate: Candidate) -> str:
    """`3/3`, the gates that failed, or why there is no measurement."""
    if not candidate.status.is_measured:
        return candidate.status.value
    failed = [gate for gate in candidate.gates if not gate.passed]
    if not failed:
        return f"{len(candidate.gates)}/{len(candidate.gates)} passed"
    said = []
    for gate in failed:
        sign = ">" if gate.bound == "at_most" else "<"
        value = "?" if gate.value is None else f"{gate.value:.4g}"
        said.append(f"{gate.metric} {value} {sign} {gate.limit:g}")
    return "failed: " + ", ".join(said)


def size(count: float | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return ""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f} B"


def _number(metrics: dict[str, float], name: str, form: str) -> str:
    return form.format(metrics[name]) if name in metrics else ""


def _interval(
    metrics: dict[str, float], name: str, form: str, low: str = "", high: str = ""
) -> str:
    """A value with its 95 % interval."""
    if name not in metrics:
        return ""
    room = name.rpartition("/")[0]
    below = metrics.get(f"{room}/{low}" if low else f"{name}_low")
    above = metrics.get(f"{room}/{high}" if high else f"{name}_high")
    text = form.format(metrics[name])
    if below is None or above is None:
        return text
    return f"{text} [{form.format(below)}, {form.format(above)}]"


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
    if outcome.champion is None:
        return f"No champion: {outcome.why}. The registry was not touched."
    champion = outcome.champion
    place = f"models:/{champion.model}@{champion.alias}, version {champion.version}"
    if not champion.new:
        place += ", as before"
    return f"Champion: {champion.candidate} ({place}): {outcome.why}."


def caption(recipe: Recipe) -> str:
    """What the numbers of the table are."""
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
