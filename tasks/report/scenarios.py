"""What candidates reached in the scenarios of the benchmark, for people."""

from __future__ import annotations

from ...recipe.benchmark import Offline, Server
from ...recipe.schema import Recipe
from ..outcome import Outcome
from ..specs.benchmark import ScenarioResult
from .rows import Cell, Row

Reached = dict[str, dict[str, ScenarioResult]]
#: Headings of the table, after the candidate's name.
HEADINGS = ("scenario", "a second", "p99 (ms)", "processes", "calls")


def scenario_rows(outcome: Outcome, reached: Reached) -> list[Row]:
    """A row for each candidate and scenario, the highest rate of a scenario first."""
    found = [(kind, name, one) for name, kinds in reached.items() for kind, one in kinds.items()]
    found.sort(key=lambda row: (row[0], -(row[2].rate or 0.0)))
    return [_row(kind, name, one, name == outcome.winner) for kind, name, one in found]


def _row(kind: str, name: str, one: ScenarioResult, won: bool) -> Row:
    return Row(
        name,
        (
            Cell(kind),
            Cell(said_rate(one), one.rate),
            Cell("" if one.p99_ms is None else f"{one.p99_ms:.3g}", one.p99_ms),
            Cell(str(one.instances), one.instances),
            Cell(f"{one.calls:,}", one.calls),
        ),
        "winner" if won else "",
    )


def said_rate(one: ScenarioResult) -> str:
    """A rate with its 95 % interval, or why there is none."""
    if one.rate is None:
        return one.problem or "not measured"
    if one.rate_low is None or one.rate_high is None:
        return f"{one.rate:,.0f}"
    return f"{one.rate:,.0f} [{one.rate_low:,.0f}, {one.rate_high:,.0f}]"


def told_scenarios(recipe: Recipe) -> list[str]:
    """What each scenario of a recipe asks for, a sentence each."""
    return [_told(recipe, scenario) for scenario in recipe.benchmark.scenarios]


def _told(recipe: Recipe, scenario: Offline | Server) -> str:
    each = f"{scenario.instances} process{'es' if scenario.instances > 1 else ''}"
    if isinstance(scenario, Offline):
        size = recipe.benchmark.offline_batch(scenario)
        return f"Offline: calls with {size} sample{'s' if size > 1 else ''} back to back in {each}."
    return (
        f"Server: queries of one sample arrive at random (Poisson) and are answered by {each} in "
        "order of arrival; the highest rate whose 99th percentile of latency, waiting included, is "
        f"at most {scenario.p99_ms:g} ms at 99 % confidence."
    )
