"""Timings of a benchmark under MLflow's names. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ...recipe.benchmark import RATES
from ...recipe.measures import MEASURES, find_measure, mlflow_name
from ...recipe.schema import Recipe
from ...tasks.benchmark.statistics import ratio
from ...tasks.decide import primary_batch
from ...tasks.specs.benchmark import BenchmarkFacts, Timing

#: Median duration of each round (s), by launch.
Rounds = list[list[float]]


def timing_metrics(
    recipe: Recipe,
    measured: dict[str, Timing],
    uncompressed: dict[int, Rounds],
    champion: dict[int, Rounds],
) -> dict[str, float]:
    """MLflow's names for the timings: plain ones for the main batch size, and one for each size.

    Args:
        recipe: Determines the main batch size.
        measured: Of a candidate, by batch size.
        uncompressed: The rounds of the fastest candidate without passes, by batch size.
        champion: The rounds of today's champion, by batch size.
    """
    metrics: dict[str, float] = {}
    for size, timing in measured.items():
        found = _named(timing)
        for measure, other in (
            ("latency.ratio_to_uncompressed", uncompressed),
            ("latency.ratio_to_champion", champion),
        ):
            if int(size) in other:
                bounded = ratio(other[int(size)], timing.rounds)
                names = MEASURES[measure].names
                found |= {mlflow_name(n): value for n, value in zip(names, bounded, strict=True)}
        if int(size) == primary_batch(recipe):
            metrics |= found
        metrics |= {f"{name}_batch_{size}": value for name, value in found.items()}
    return metrics


def _named(timing: Timing) -> dict[str, float]:
    """The benchmark's numbers, which have bare names (`p50_ms`), under MLflow's names."""
    return {
        mlflow_name(name): float(value)
        for measure in MEASURES.values()
        if measure.per_batch
        for name in measure.names
        if (value := getattr(timing, name.partition(".")[2], None)) is not None
    }


def process_metrics(benchmarked: BenchmarkFacts, name: str) -> dict[str, float]:
    """What was measured of an entrant's process, under MLflow's names."""
    cold = benchmarked.cold.get(name)
    found = {
        "memory.peak_bytes": benchmarked.memory.get(name),
        "memory.gpu_bytes": benchmarked.gpu_memory.get(name),
        "cold_start.load_s": None if cold is None else cold.load_s,
        "cold_start.first_answer_s": None if cold is None else cold.first_answer_s,
    }
    return {mlflow_name(n): float(value) for n, value in found.items() if value is not None}


def scenario_metrics(benchmarked: BenchmarkFacts, name: str) -> dict[str, float]:
    """What a candidate reached in scenarios, under MLflow's names."""
    metrics: dict[str, float] = {}
    for kind, found in benchmarked.scenarios.get(name, {}).items():
        values = (found.rate, found.rate_low, found.rate_high)
        for measure, value in zip(MEASURES[RATES[kind]].names, values, strict=True):
            if value is not None:
                metrics[mlflow_name(measure)] = value
        if found.p99_ms is not None:
            metrics[mlflow_name(f"{kind}.p99_ms")] = found.p99_ms
    return metrics


def unmeasured(benchmarked: BenchmarkFacts, name: str) -> dict[str, str]:
    """Why measures of scenarios have no value, by their names."""
    return {
        measure.name: found.problem
        for kind, found in benchmarked.scenarios.get(name, {}).items()
        if found.problem is not None
        for measure in MEASURES.values()
        if measure.scenario == kind
    }


def unmeasured_in_short(benchmarked: BenchmarkFacts, name: str) -> dict[str, str]:
    """The same in a word or two, of the rates."""
    return {
        RATES[kind]: found.in_short
        for kind, found in benchmarked.scenarios.get(name, {}).items()
        if found.in_short is not None
    }


def selecting_rounds(recipe: Recipe, benchmarked: BenchmarkFacts, name: str) -> Rounds:
    """The rounds of what `select` asks for: of its scenario, else of the main batch size."""
    measure = find_measure(recipe.select.metric)
    if measure is None or measure.scenario is None:
        return benchmarked.timing(name, primary_batch(recipe)).rounds
    found = benchmarked.scenarios.get(name, {}).get(measure.scenario)
    return [] if found is None else found.rounds


def fastest_rounds(benchmarked: BenchmarkFacts, names: Iterable[str]) -> dict[int, Rounds]:
    """By batch size, the rounds of the fastest of these that was timed."""
    fastest: dict[str, Timing] = {}
    for name in names:
        for size, timing in benchmarked.measured.get(name, {}).items():
            if size not in fastest or timing.p50_ms < fastest[size].p50_ms:
                fastest[size] = timing
    return {int(size): timing.rounds for size, timing in fastest.items()}
