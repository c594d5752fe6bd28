"""Conclude: from the results of steps to candidates with verdicts, and to the one that wins.

Pure: the result depends on the arguments alone, and there are no side effects.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...ray_workers.dispatch import Done
from ...recipe.errors import HoneError
from ...recipe.measures import MEASURES, mlflow_name
from ...recipe.schema import Recipe
from ...tasks.benchmark.benchmark import BASELINE
from ...tasks.benchmark.statistics import ratio
from ...tasks.decide import Measured, judge, pick, primary_batch
from ...tasks.outcome import ArtifactSaid, Candidate, CandidateStatus, Outcome
from ...tasks.specs.benchmark import BenchmarkFacts, Timing
from .layout import CandidateLayout
from .results import Results, Settled

#: Median duration of each round (s), by launch.
Rounds = list[list[float]]


def conclude(recipe: Recipe, run_id: str, results: Results) -> Outcome:
    """Judge every candidate, and say which one wins and why. Nothing is promoted yet.

    Args:
        recipe: What was asked for.
        run_id: MLflow's id of the parent run.
        results: The results of its steps.
    """
    benchmarked = BenchmarkFacts()
    if results.benchmark is not None:
        benchmarked = results.benchmark.done.facts_as(BenchmarkFacts)
    plain = [way.name for way in results.layout.candidates if not way.variant.passes]
    uncompressed = _fastest(recipe, benchmarked, plain)
    candidates = tuple(
        _candidate(recipe, way, benchmarked, uncompressed) for way in results.layout.candidates
    )
    size = primary_batch(recipe)
    passing = [
        Measured(name=c.name, metrics=c.metrics, rounds=benchmarked.timing(c.name, size).rounds)
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
        promotion=recipe.promotion,
        why=why,
        baseline=_baseline(recipe, results, benchmarked),
        candidates=candidates,
        seconds={r.label: round(r.done.seconds, 3) for r in results.steps if not r.cached},
        cached=tuple(r.label for r in results.steps if r.cached),
        notes=results.notes,
    )


def _fastest(
    recipe: Recipe, benchmarked: BenchmarkFacts, names: Iterable[str]
) -> dict[int, Rounds]:
    """By batch size, the rounds of the fastest of these candidates that was timed."""
    timed = [name for name in names if name in benchmarked.measured]
    fastest: dict[int, Rounds] = {}
    for size in recipe.benchmark.batch_sizes if timed else ():
        timings = [benchmarked.timing(name, size) for name in timed]
        fastest[size] = min(timings, key=lambda timing: timing.p50_ms).rounds
    return fastest


def _candidate(
    recipe: Recipe,
    way: CandidateLayout[Settled],
    benchmarked: BenchmarkFacts,
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
        status = CandidateStatus.UNCHANGED if broken.unchanged else CandidateStatus.FAILED
        return _with(candidate, status=status, error=broken.error)
    metrics = dict(_done(way.validated).metrics)
    if way.name in benchmarked.failed:
        error = HoneError.from_dict(benchmarked.failed[way.name].model_dump())
        return _with(candidate, error=f"benchmark: {error}", metrics=metrics)
    metrics |= timing_metrics(recipe, benchmarked.measured[way.name], uncompressed)
    metrics["memory/peak_bytes"] = float(benchmarked.memory[way.name])
    metrics |= _coverage(way)
    gates = judge(recipe, metrics)
    passed = all(gate.passed for gate in gates)
    status = CandidateStatus.PASSED if passed else CandidateStatus.GATED
    return _with(candidate, status=status, metrics=metrics, gates=gates)


def _coverage(way: CandidateLayout[Settled]) -> dict[str, float]:
    """The smallest share of layers that a pass of the candidate changed; 1 where it has no pass.

    No number where passes on the graph are left to a target that compiles the module.
    """
    name = MEASURES["coverage.fraction"].mlflow("")
    if way.target.takes == "module" and any(p.works_on == "graph" for p in way.variant.passes):
        return {}
    found = [
        step.done.metrics[name] for step in way.shared if step.done and name in step.done.metrics
    ]
    return {name: min(found, default=1.0)}


def _with(candidate: Candidate, **fields: object) -> Candidate:
    return candidate.model_copy(update=fields)


def _artifact(way: CandidateLayout[Settled]) -> ArtifactSaid | None:
    if way.compiled is None or way.compiled.result is None:
        return None
    artifact = way.compiled.result.artifact("model")
    return ArtifactSaid(uri=artifact.uri, sha256=artifact.sha256, bytes=artifact.bytes)


def _done(step: Settled | None) -> Done:
    assert step is not None  # noqa: S101 (narrows a type)
    assert step.done is not None  # noqa: S101 (narrows a type)
    return step.done


def timing_metrics(
    recipe: Recipe, measured: dict[str, Timing], uncompressed: dict[int, Rounds]
) -> dict[str, float]:
    """MLflow's names for the timings: plain ones for the main batch size, and one for each size.

    Args:
        recipe: Determines the main batch size.
        measured: Of a candidate, by batch size.
        uncompressed: The rounds of the fastest candidate without passes, by batch size.
    """
    metrics: dict[str, float] = {}
    for size, timing in measured.items():
        found = _named(timing)
        if int(size) in uncompressed:
            bounded = ratio(uncompressed[int(size)], timing.rounds)
            names = MEASURES["latency.ratio_to_uncompressed"].names
            found |= {mlflow_name(n): value for n, value in zip(names, bounded, strict=True)}
        if int(size) == primary_batch(recipe):
            metrics |= found
        metrics |= {f"{name}_batch_{size}": value for name, value in found.items()}
    return metrics


def _named(timing: Timing) -> dict[str, float]:
    """The benchmark's numbers, which have bare names (`p50_ms`), under MLflow's names."""
    return {
        mlflow_name(name): float(getattr(timing, field))
        for measure in MEASURES.values()
        if measure.per_batch
        for name in measure.names
        if (field := name.partition(".")[2]) in Timing.model_fields
    }


def _baseline(recipe: Recipe, results: Results, benchmarked: BenchmarkFacts) -> dict[str, float]:
    if results.layout.reference.done is None:
        return {}
    metrics = dict(results.layout.reference.done.metrics)
    if BASELINE in benchmarked.measured:
        metrics |= timing_metrics(recipe, benchmarked.measured[BASELINE], {})
        metrics["memory/peak_bytes"] = float(benchmarked.memory[BASELINE])
    metrics["size/bytes"] = float(_done(results.layout.train).outputs["weights"].bytes)
    return metrics
