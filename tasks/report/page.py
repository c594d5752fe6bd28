"""The report of a run: one HTML file that needs no network and no scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from ...recipe.measures import MEASURES
from ..decide import GateResult
from ..outcome import Candidate, Outcome
from ..specs.benchmark import BASELINE
from .alike import layers_of, sensitivity_of
from .contents import Report
from .flipped import flipped_samples
from .looks import explained_pairs, explanation_rows, robustness_headers, robustness_rows
from .measured_again import HEADINGS as AGAIN
from .measured_again import again_rows, in_words
from .pictures import Pictures
from .processes import HEADINGS as PROCESSES
from .processes import process_rows
from .rows import Cell, Row
from .scenarios import HEADINGS as SCENARIOS
from .scenarios import scenario_rows, told_scenarios
from .table import caption, cell, columns, headline_parts, ordered, verdict

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Tile:
    """A number that comes first."""

    value: str
    label: str


def page(report: Report, pictures: Pictures) -> str:
    """The page of a run.

    Args:
        report: What it shows.
        pictures: Its pictures.
    """
    return render(
        "page.html.j2",
        report=report,
        outcome=report.outcome,
        verdict=headline_parts(report.outcome),
        tiles=tiles(report),
        caption=caption(report.recipe, report.outcome),
        headers=[str(measure.header) for measure in columns(report.outcome)],
        rows=candidate_rows(report),
        gates=gate_headings(report.outcome),
        gate_rows=gate_rows(report.outcome),
        timing_rows=timing_rows(report),
        scenario_headings=list(SCENARIOS),
        scenario_rows=scenario_rows(report.outcome, report.scenarios),
        scenarios_told=told_scenarios(report.recipe),
        process_headings=list(PROCESSES),
        process_rows=process_rows(report.outcome),
        again_headings=list(AGAIN),
        again_rows=again_rows(report.outcome),
        again_said=in_words(report.outcome, report.recipe),
        pictures=_as_markup(pictures.plain),
        sensitivity=_as_markup(pictures.sensitivity),
        layers=_as_markup(pictures.layers),
        layers_of=layers_of(report),
        sensitivity_of=sensitivity_of(report),
        departures={
            c.name: f"{c.departs[0].upper()}{c.departs[1:]}" if c.departs else None
            for c in report.outcome.candidates
        },
        groups=_as_markup(pictures.groups),
        flip_rows=flip_rows(report),
        recipe=recipe_text(report),
        looks=_looks(report, pictures),
        flipped=flipped_samples(report),
    )


def _looks(report: Report, pictures: Pictures) -> dict[str, Any]:
    """What `looks.html.j2` shows."""
    facts = next((one for one in report.robustness.values() if one.conditions), None)
    pairs = explained_pairs(report)
    return {
        "robustness": _as_markup(pictures.plain).get("robustness"),
        "robustness_headers": robustness_headers(report),
        "robustness_rows": robustness_rows(report),
        "samples": 0 if facts is None else facts.samples,
        "conditions": 0 if facts is None else len(facts.conditions),
        "explanation_rows": explanation_rows(report),
        "pairs": pairs,
        "pictures": [pair for pair in next(iter(pairs.values()), []) if pair.picture],
    }


def recipe_text(report: Report) -> str:
    """The recipe as YAML, without the fields that have their defaults."""
    fields = report.recipe.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def _as_markup(pictures: dict[str, str]) -> dict[str, Markup]:
    return {name: Markup(text) for name, text in pictures.items()}  # noqa: S704 (drawn by us)


def render(template: str, **values: Any) -> str:
    """A page from a template in this folder; every value is escaped."""
    loader = jinja2.FileSystemLoader(_FOLDER)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return environment.get_template(template).render(**values)


def tiles(report: Report) -> list[Tile]:
    """The numbers that come first: of the winner, compared with the trained model."""
    best = report.outcome.winning
    if best is None:
        return []
    metric = report.recipe.quality.name
    shown = (
        ("latency.ratio", "times as fast as PyTorch eager"),
        ("latency.p50_ms", "ms latency p50"),
        ("quality.value", f"{metric} on the test split"),
        ("quality.drop", f"drop of {metric}"),
        ("size.ratio", "times smaller than the trained weights"),
    )
    texts = ((cell(MEASURES[name], best.metrics, metric), label) for name, label in shown)
    return [Tile(text, label) for text, label in texts if text]


def candidate_rows(report: Report) -> list[Row]:
    """The baseline, today's champion if it was measured, and every candidate, the fastest first."""
    metric, shown = report.recipe.quality.name, columns(report.outcome)

    def cells(metrics: dict[str, float]) -> list[Cell]:
        return [Cell(cell(m, metrics, metric), metrics.get(m.mlflow(metric))) for m in shown]

    first = Row("PyTorch eager (trained model)", (*cells(report.outcome.baseline), Cell("")),
                BASELINE)  # fmt: skip
    found = [first]
    today = report.outcome.today
    if today is not None and today.unmeasured is None:
        found.append(Row(today.name, (*cells(today.metrics), Cell("")), BASELINE))
    for candidate in ordered(report.outcome):
        metrics = dict(candidate.metrics)
        if candidate.artifact is not None:
            metrics["size/bytes"] = float(candidate.artifact.bytes)
        found.append(
            Row(
                candidate.name,
                (*cells(metrics), Cell(verdict(candidate))),
                _kind(report, candidate),
            )
        )
    return found


def _kind(report: Report, candidate: Candidate) -> str:
    return "winner" if candidate.name == report.outcome.winner else candidate.status.value


def gate_headings(outcome: Outcome) -> list[str]:
    """Every gate that a candidate was judged by, once."""
    return list(dict.fromkeys(_limit(g) for c in outcome.candidates for g in c.gates))


def gate_rows(outcome: Outcome) -> list[Row]:
    """Each measured candidate's value and margin, gate by gate."""
    headings = gate_headings(outcome)
    rows = []
    for candidate in ordered(outcome):
        if candidate.gates:
            by_limit = {_limit(gate): gate for gate in candidate.gates}
            cells = tuple(_gate_cell(by_limit.get(heading)) for heading in headings)
            rows.append(Row(candidate.name, cells, candidate.status.value))
    return rows


def _limit(gate: GateResult) -> str:
    return f"{gate.metric} {'≤' if gate.bound == 'at_most' else '≥'} {gate.limit:.4g}"


def _gate_cell(gate: GateResult | None) -> Cell:
    if gate is None:
        return Cell("")
    if gate.value is None:
        told = gate.said or "not measured"
        passed = "passed" if gate.passed else "failed"
        return Cell(f"{'✓' if gate.passed else '✗'} {told}", None, passed)
    margin = "" if gate.margin is None else f" ({gate.margin:+.3g})"
    text = f"{'✓' if gate.passed else '✗'} {gate.value:.4g}{margin}"
    return Cell(text, gate.margin, "passed" if gate.passed else "failed")


_TIMED = ("latency.p50_ms", "latency.p90_ms", "latency.p99_ms", "latency.ratio")


def timing_rows(report: Report) -> list[Row]:
    """Percentiles at every batch size, a row for each candidate and batch size."""
    rows = []
    for name, by_size in report.timings.items():
        for size, timing in by_size.items():
            p50, p90, p99, _ = (MEASURES[measure].format for measure in _TIMED)
            interval = f"[{p50(timing.p50_ms_low)}, {p50(timing.p50_ms_high)}]"
            faster = "" if timing.ratio is None else f"{timing.ratio:.2f}"
            faster += f" [{timing.ratio_low:.2f}, {timing.ratio_high:.2f}]" if faster else ""
            cells = (
                Cell(size, float(size)),
                Cell(f"{p50(timing.p50_ms)} {interval}", timing.p50_ms),
                _percentile(timing.p90_ms, p90),
                _percentile(timing.p99_ms, p99),
                Cell(f"{timing.samples_per_s:,.0f}", timing.samples_per_s),
                Cell("1" if name == BASELINE else faster, timing.ratio),
                Cell(f"{timing.calls:,.0f}", timing.calls),
            )
            rows.append(Row("PyTorch eager" if name == BASELINE else name, cells))
    return rows


def _percentile(value: float | None, shown: Callable[[float], str]) -> Cell:
    return Cell("too few calls" if value is None else shown(value), value)


def _measured(report: Report, name: str, measure: str) -> Cell:
    """How far a candidate's answers agree with the trained model's."""
    found = next((c for c in report.outcome.candidates if c.name == name), None)
    value = None if found is None else found.metrics.get(f"flips/{measure}")
    if value is None:
        return Cell("")
    return Cell(f"{value:.2%}" if measure == "same_top" else f"{value:.3g}", value)


def flip_rows(report: Report) -> list[Row]:
    """How many answers of each candidate flipped, and whether chance explains it."""
    rows = []
    for name, facts in report.judged.items():
        flips = facts.flips
        if flips is None:
            continue
        cells = (
            Cell(str(flips.broken), flips.broken),
            Cell(str(flips.repaired), flips.repaired),
            Cell(f"{(flips.broken + flips.repaired) / flips.count:.2%}"),
            Cell(f"{flips.p_value:.3g}", flips.p_value),
            *(_measured(report, name, measure) for measure in ("same_top", "kl_divergence")),
            Cell(", ".join(map(str, flips.broken_samples[:12]))),
        )
        rows.append(Row(name, cells, "winner" if name == report.outcome.winner else ""))
    return rows
