"""Conclude: from the results of steps to candidates with verdicts, and to the one that wins.

Pure: what it says depends on its arguments alone, and it tells nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ...ray_workers.dispatch import Done
from ...recipe.errors import HoneError
from ...recipe.schema import Recipe
from ...tasks.benchmark.benchmark import BASELINE
from ...tasks.benchmark.statistics import ratio
from ...tasks.decide import Measured, judge, pick, primary_batch
from ...tasks.outcome import ArtifactSaid, Candidate, CandidateStatus, Outcome
from .layout import CandidateLayout
from .results import Results, Settled, StepResult

#: Median duration of each round (s), by launch.
Rounds = list[list[float]]


@dataclass(frozen=True)
class Benchmarked:
    """What the benchmark found out.

    Attributes:
        measured: Timings, by candidate and batch size.
        memory: Largest resident memory of each (bytes).
        failed: What the others died of.
    """

    measured: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def of(benchmark: StepResult | None) -> Benchmarked:
        if benchmark is None:
            return Benchmarked()
        facts = benchmark.done.facts
        return Benchmarked(facts["measured"], facts["memory"], facts["failed"])

    def rounds(self, name: str, size: int) -> Rounds:
        found: Rounds = self.measured[name][str(size)]["rounds"]
        return found

    def fastest(self, names: Iterable[str], size: int) -> Rounds | None:
        """The rounds of the fastest of these candidates; None where none of them was timed."""
        timed = [name for name in names if name in self.measured]
        if not timed:
            return None
        best = min(timed, key=lambda name: float(self.measured[name][str(size)]["p50_ms"]))
        return self.rounds(best, size)


def conclude(recipe: Recipe, run_id: str, results: Results) -> Outcome:
    """Judge every candidate, and say which one wins and why. Nothing is promoted yet.

    Args:
        recipe: What was asked for.
        run_id: MLflow's id of the parent run.
        results: What came of its steps.
    """
    benchmarked = Benchmarked.of(results.benchmark)
    plain = [way.name for way in results.layout.candidates if not way.variant.passes]
    uncompressed = {
        size: rounds
        for size in recipe.benchmark.batch_sizes
        if (rounds := benchmarked.fastest(plain, size)) is not None
    }
    candidates = tuple(
        _candidate(recipe, way, benchmarked, uncompressed) for way in results.layout.candidates
    )
    size = primary_batch(recipe)
    passing = [
        Measured(name=c.name, metrics=c.metrics, rounds=benchmarked.rounds(c.name, size))
        for c in candidates
        if c.status is CandidateStatus.PASSED
    ]
    winner, why = pick(recipe, passing)
    if not benchmarked.measured:
        why = "no candidate could be measured"
    return Outcome(
        recipe=recipe.name,
        recipe_digest=recipe.digest(),
        run_id=run_id,
        winner=None if winner is None else winner.name,
        why=why,
        baseline=_baseline(recipe, results, benchmarked),
        candidates=candidates,
        seconds={r.label: round(r.done.seconds, 3) for r in results.steps if not r.cached},
        cached=tuple(r.label for r in results.steps if r.cached),
        notes=results.notes,
    )


def _candidate(
    recipe: Recipe,
    way: CandidateLayout[Settled],
    benchmarked: Benchmarked,
    uncompressed: dict[int, Rounds],
) -> Candidate:
    candidate = Candidate(
        name=way.name,
        variant=way.variant.name,
        target=way.target.name,
        status=CandidateStatus.SKIPPED,
    )
    if way.unavailable is not None:
        return _with(candidate, error=way.unavailable.reason)
    candidate = _with(
        candidate,
        status=CandidateStatus.FAILED,
        artifact=_artifact(way),
        notes=tuple(text for step in way.steps if step.done for text in step.done.notes),
    )
    broken = next((step for step in way.steps if step.result is None), None)
    if broken is not None:
        return _with(candidate, error=broken.error)
    metrics = dict(_done(way.validated).metrics)
    if way.name in benchmarked.failed:
        error = HoneError.from_dict(benchmarked.failed[way.name])
        return _with(candidate, error=f"benchmark: {error}", metrics=metrics)
    metrics |= timing_metrics(recipe, benchmarked.measured[way.name], uncompressed)
    metrics["memory/peak_bytes"] = float(benchmarked.memory[way.name])
    gates = judge(recipe, metrics)
    passed = all(gate.passed for gate in gates)
    status = CandidateStatus.PASSED if passed else CandidateStatus.GATED
    return _with(candidate, status=status, metrics=metrics, gates=gates)


def _with(candidate: Candidate, **fields: object) -> Candidate:
    return candidate.model_copy(update=fields)


def _artifact(way: CandidateLayout[Settled]) -> ArtifactSaid | None:
    if way.compiled is None or way.compiled.result is None:
        return None
    artifact = way.compiled.result.artifact("model")
    return ArtifactSaid(uri=artifact.uri, sha256=artifact.sha256, bytes=artifact.bytes)


def _done(step: Settled | None) -> Done:
    assert step is not None
    assert step.done is not None
    return step.done


def timing_metrics(
    recipe: Recipe, measured: dict[str, dict[str, Any]], uncompressed: dict[int, Rounds]
) -> dict[str, float]:
    """MLflow's names for the timings: plain ones for the main batch size, and one for each size.

    Args:
        recipe: Which batch size is the main one.
        measured: Of a candidate, by batch size.
        uncompressed: The rounds of the fastest candidate without passes, by batch size.
    """
    metrics: dict[str, float] = {}
    for size, timing in measured.items():
        found = {
            "latency/p50_ms": timing["p50_ms"],
            "latency/p50_low_ms": timing["p50_low_ms"],
            "latency/p50_high_ms": timing["p50_high_ms"],
            "latency/p90_ms": timing["p90_ms"],
            "latency/p99_ms": timing["p99_ms"],
            "latency/calls": timing["calls"],
            "latency/ratio": timing["ratio"],
            "latency/ratio_low": timing["ratio_low"],
            "latency/ratio_high": timing["ratio_high"],
            "throughput/samples_per_s": timing["samples_per_s"],
        }
        if int(size) in uncompressed:
            value, low, high = ratio(uncompressed[int(size)], timing["rounds"])
            found["latency/ratio_to_uncompressed"] = value
            found["latency/ratio_to_uncompressed_low"] = low
            found["latency/ratio_to_uncompressed_high"] = high
        if int(size) == primary_batch(recipe):
            metrics |= found
        metrics |= {f"{name}_batch_{size}": value for name, value in found.items()}
    return metrics


def _baseline(recipe: Recipe, results: Results, benchmarked: Benchmarked) -> dict[str, float]:
    if results.layout.reference.done is None:
        return {}
    metrics = dict(results.layout.reference.done.metrics)
    if BASELINE in benchmarked.measured:
        metrics |= timing_metrics(recipe, benchmarked.measured[BASELINE], {})
        metrics["memory/peak_bytes"] = float(benchmarked.memory[BASELINE])
    metrics["size/bytes"] = float(_done(results.layout.train).outputs["weights"].bytes)
    return metrics
