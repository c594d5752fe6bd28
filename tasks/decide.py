"""Decide: gates, and which candidate wins. Pure functions of the measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ..recipe.measures import find_measure, mlflow_name
from ..recipe.schema import Gate, Recipe
from ..recipe.strict import Strict


class GateResult(Strict):
    """The result of a gate for a candidate.

    Attributes:
        metric: The measure, with its batch size if it has one.
        bound: Whether `limit` is the highest or the lowest value that passes.
        limit: The recipe's limit.
        value: The measured value; None if there is none.
        margin: Distance to the limit (negative: failed by that much), in the measure's unit.
        passed: Whether it passed.
    """

    metric: str
    bound: Literal["at_most", "at_least"]
    limit: float
    value: float | None
    margin: float | None
    passed: bool


class Measured(Strict):
    """A candidate with all of its measurements.

    Attributes:
        name: Of the candidate.
        metrics: Under MLflow's names.
        rounds: Median duration of each round (s), by launch, at the batch size that selects.
    """

    name: str
    metrics: dict[str, float]
    rounds: list[list[float]] = Field(default_factory=list)


def primary_batch(recipe: Recipe) -> int:
    """The batch size of names that have none: that of `select`, else the first timed."""
    return recipe.select.batch_size or recipe.benchmark.batch_sizes[0]


def metric_name(recipe: Recipe, measure: str, batch_size: int | None) -> str:
    """The MLflow name of a measure of a gate or of `select`."""
    name = mlflow_name(measure, recipe.quality.name)
    found = find_measure(measure)
    if found is None or not found.per_batch:
        return name
    size = batch_size or primary_batch(recipe)
    return name if size == primary_batch(recipe) else f"{name}_batch_{size}"


def judge(recipe: Recipe, metrics: dict[str, float]) -> tuple[GateResult, ...]:
    """The result of each gate of the recipe."""
    return tuple(_judge_gate(recipe, gate, metrics) for gate in recipe.gates)


def _judge_gate(recipe: Recipe, gate: Gate, metrics: dict[str, float]) -> GateResult:
    value = metrics.get(metric_name(recipe, gate.metric, gate.batch_size))
    upper = gate.at_most is not None
    limit = float(gate.at_most if gate.at_most is not None else gate.at_least or 0.0)
    margin = None if value is None else (limit - value if upper else value - limit)
    shown = gate.metric if gate.batch_size is None else f"{gate.metric} (batch {gate.batch_size})"
    return GateResult(
        metric=shown,
        bound="at_most" if upper else "at_least",
        limit=limit,
        value=value,
        margin=margin,
        passed=margin is not None and margin >= 0,
    )


def pick(recipe: Recipe, passing: Sequence[Measured]) -> tuple[Measured | None, str]:
    """The best of those that pass every gate, and why in a sentence.

    Of candidates with the same value the first one in the recipe's order wins.
    """
    wanted = metric_name(recipe, recipe.select.metric, recipe.select.batch_size)
    lower = recipe.select.minimize is not None
    able = [candidate for candidate in passing if wanted in candidate.metrics]
    if not able:
        return None, "no candidate passed every gate"
    ordered = sorted(able, key=lambda c: c.metrics[wanted] if lower else -c.metrics[wanted])
    best = ordered[0]
    aim = "lowest" if lower else "highest"
    size = recipe.select.batch_size
    at = f" at batch size {size}" if size is not None else ""
    value = best.metrics[wanted]
    why = f"it has the {aim} {recipe.select.metric}{at} ({value:.4g})"
    if len(ordered) == 1:
        return best, f"{why}; no other candidate passed every gate"
    second = ordered[1]
    why += f", before {second.name} ({second.metrics[wanted]:.4g})"
    timed = find_measure(recipe.select.metric)
    if timed is not None and timed.per_batch and _alike(best, second):
        why += "; at 95 % confidence the two can't be told apart"
    return best, why


def _alike(first: Measured, second: Measured) -> bool:
    """Whether the 95 % interval of their ratio, round by round, contains 1."""
    from .benchmark.statistics import ratio

    if not first.rounds or not second.rounds:
        return False
    _, low, high = ratio(second.rounds, first.rounds)
    return low <= 1 <= high
