"""Conclude: from the results of steps to candidates with verdicts, and to the one that wins.

Pure: the result depends on the arguments alone, and there are no side effects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...ray_workers.dispatch import Done
from ...recipe.errors import HoneError
from ...recipe.measures import MEASURES, mlflow_name
from ...recipe.schema import Recipe
from ...tasks.benchmark.statistics import ratio
from ...tasks.choose import Measured, compare, pick
from ...tasks.decide import Beside, gates_by, judge, primary_batch
from ...tasks.departures import departure_of
from ...tasks.outcome import ArtifactSaid, Candidate, CandidateStatus, Outcome
from ...tasks.specs.benchmark import BASELINE, CHAMPION, BenchmarkFacts, Timing
from ...tasks.specs.compress import Coverage
from ...tasks.specs.layer_parity import LayerParityFacts
from ...tasks.specs.validate import CompareFacts
from ...tasks.todays_champion import TodaysChampion
from .layout import CandidateLayout
from .results import Results, Settled

#: Median duration of each round (s), by launch.
Rounds = list[list[float]]


@dataclass(frozen=True)
class _Measurements:
    """What candidates are measured by and beside.

    Attributes:
        recipe: What was asked for.
        benchmarked: The timings.
        uncompressed: The rounds of the fastest candidate without passes, by batch size.
        baseline: Measurements of the trained model in PyTorch eager.
        today: Today's champion, if the recipe compares with it.
        champion: The champion's rounds, by batch size; empty if it was not timed.
        drops: Loss of quality of each candidate from the champion's, under MLflow's names.
    """

    recipe: Recipe
    benchmarked: BenchmarkFacts
    uncompressed: dict[int, Rounds]
    baseline: dict[str, float]
    today: TodaysChampion | None
    champion: dict[int, Rounds]
    drops: dict[str, dict[str, float]]


def conclude(recipe: Recipe, run_id: str, results: Results) -> Outcome:
    """Judge every candidate, and say which one wins and why. Nothing is promoted yet.

    Args:
        recipe: What was asked for.
        run_id: MLflow's id of the parent run.
        results: The results of its steps.
    """
    measured = _measurements(recipe, results)
    benchmarked, size = measured.benchmarked, primary_batch(recipe)
    candidates = tuple(_candidate(measured, way) for way in results.layout.candidates)
    passing = [
        Measured(name=c.name, metrics=c.metrics, rounds=benchmarked.timing(c.name, size).rounds)
        for c in candidates
        if c.status is CandidateStatus.PASSED
    ]
    winner, why = pick(recipe, passing, measured.today, len(candidates))
    if not any(way.name in benchmarked.measured for way in results.layout.candidates):
        why = "no candidate could be measured"
    best = next((c for c in candidates if winner is not None and c.name == winner.name), None)
    promotion = recipe.promotion
    if best is not None and best.suspicious:
        why += f"; but {best.suspicious}"
        promotion = "approve" if promotion == "auto" else promotion
    return Outcome(
        recipe=recipe.name,
        recipe_digest=recipe.digest(),
        run_id=run_id,
        winner=None if winner is None else winner.name,
        promotion=promotion,
        why=why,
        baseline=measured.baseline,
        candidates=tuple(_beside_winner(c, winner, benchmarked, size) for c in candidates),
        seconds={r.label: round(r.done.seconds, 3) for r in results.steps if not r.cached},
        cached=tuple(r.label for r in results.steps if r.cached),
        notes=results.notes,
        today=measured.today,
        select=recipe.select.metric,
        metric=recipe.quality.name,
        gates_by=gates_by(recipe),
    )


def _measurements(recipe: Recipe, results: Results) -> _Measurements:
    benchmarked = BenchmarkFacts()
    if results.benchmark is not None:
        benchmarked = results.benchmark.done.facts_as(BenchmarkFacts)
    plain = [way.name for way in results.layout.candidates if not way.variant.passes]
    today = measured_champion(recipe, results, benchmarked)
    timed = [] if today is None else [today.same_as or CHAMPION]
    drops = CompareFacts()
    if results.compared is not None and results.compared.done is not None:
        drops = results.compared.done.facts_as(CompareFacts)
    return _Measurements(
        recipe,
        benchmarked,
        _fastest(recipe, benchmarked, plain),
        _baseline(recipe, results, benchmarked),
        today,
        _fastest(recipe, benchmarked, timed),
        drops.drops,
    )


def _beside_winner(
    candidate: Candidate, winner: Measured | None, benchmarked: BenchmarkFacts, size: int
) -> Candidate:
    """A candidate with how long it takes as a multiple of the winner's time."""
    if winner is None or candidate.name == winner.name or not candidate.status.is_measured:
        return candidate
    rounds = benchmarked.timing(candidate.name, size).rounds
    return _with(candidate, against_winner=compare(rounds, winner.rounds))


def _fastest(
    recipe: Recipe, benchmarked: BenchmarkFacts, names: Iterable[str]
) -> dict[int, Rounds]:
    """By batch size, the rounds of the fastest of these that was timed."""
    timed = [name for name in names if name in benchmarked.measured]
    fastest: dict[int, Rounds] = {}
    for size in recipe.benchmark.batch_sizes if timed else ():
        timings = [benchmarked.timing(name, size) for name in timed]
        fastest[size] = min(timings, key=lambda timing: timing.p50_ms).rounds
    return fastest


def _candidate(measured: _Measurements, way: CandidateLayout[Settled]) -> Candidate:
    recipe, benchmarked = measured.recipe, measured.benchmarked
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
    timings = benchmarked.measured[way.name]
    metrics |= timing_metrics(recipe, timings, measured.uncompressed, measured.champion)
    metrics["memory/peak_bytes"] = float(benchmarked.memory[way.name])
    metrics |= _coverage(way)
    metrics |= _from_champion(measured, way.name, metrics)
    rounding = None if way.variant.passes else way.target.rounding_db
    gates = judge(recipe, metrics, Beside(measured.baseline, rounding, measured.today))
    passed = all(gate.passed for gate in gates)
    status = CandidateStatus.PASSED if passed else CandidateStatus.GATED
    doubt = suspicion(recipe, metrics, measured.baseline)
    return _with(
        candidate,
        status=status,
        metrics=metrics,
        gates=gates,
        suspicious=doubt,
        departs=_departure(way, metrics.get("parity/sqnr_db")),
    )


def _departure(way: CandidateLayout[Settled], sqnr_db: float | None) -> str | None:
    """Where a candidate's outputs depart from the trained model's, and what helps."""
    if sqnr_db is None:
        return None
    runtime = f"the runtime of {way.target.name}"
    return departure_of(sqnr_db, way.variant.passes, layer_parity_of(way), runtime)


def layer_parity_of(way: CandidateLayout[Settled]) -> LayerParityFacts | None:
    """The parity of a candidate's layers, if its graph was compressed."""
    for step in way.shared:
        if step.result is not None and step.result.step.facts is LayerParityFacts:
            return step.result.done.facts_as(LayerParityFacts)
    return None


def _from_champion(
    measured: _Measurements, name: str, metrics: dict[str, float]
) -> dict[str, float]:
    """How a candidate's quality and size compare with today's champion's."""
    today = measured.today
    if today is None or today.unmeasured is not None:
        return {}
    found = dict(measured.drops.get(name, {}))
    held, own = today.metrics.get("size/bytes"), metrics.get("size/bytes")
    if held and own:
        found["size/ratio_to_champion"] = held / own
    return found


def suspicion(recipe: Recipe, metrics: dict[str, float], baseline: dict[str, float]) -> str | None:
    """Why a candidate's quality is too good to be believed; None if it is not.

    It is if the whole 95 % interval of its gain over the trained model, paired on the same samples,
    lies beyond a share of the trained model's quality (`quality.suspicious_gain`).
    """
    value = baseline.get(mlflow_name("quality.value", recipe.quality.name))
    least_gain = -metrics.get("quality/drop_high", 0.0)
    if value is None or least_gain <= recipe.quality.suspicious_gain * abs(value):
        return None
    gain = -metrics["quality/drop"]
    return (
        f"it is suspicious: its {recipe.quality.name} is {gain:.4g} better than the trained "
        f"model's ({value:.4g}), which compression does not explain; see whether a pass trained on "
        "test data or the trained model is broken, before a person approves it"
    )


def _coverage(way: CandidateLayout[Settled]) -> dict[str, float]:
    """The smallest share of layers that a pass of the candidate changed; 1 where it has no pass.

    No number where passes on the graph are left to a target that compiles the module.
    """
    name = MEASURES["coverage.fraction"].mlflow("")
    if way.target.takes == "module" and any(p.works_on == "graph" for p in way.variant.passes):
        return {}
    found = [
        Coverage.model_validate(step.done.facts["coverage"]).fraction
        for step in way.shared
        if step.done and step.done.facts and step.done.facts.get("coverage")
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


def _baseline(recipe: Recipe, results: Results, benchmarked: BenchmarkFacts) -> dict[str, float]:
    if results.layout.reference.done is None:
        return {}
    metrics = dict(results.layout.reference.done.metrics)
    if BASELINE in benchmarked.measured:
        metrics |= timing_metrics(recipe, benchmarked.measured[BASELINE], {}, {})
        metrics["memory/peak_bytes"] = float(benchmarked.memory[BASELINE])
    metrics["size/bytes"] = float(_done(results.layout.train).outputs["weights"].bytes)
    return metrics


def measured_champion(
    recipe: Recipe, results: Results, benchmarked: BenchmarkFacts
) -> TodaysChampion | None:
    """Today's champion with what this run measured of it, or with why it measured nothing."""
    beside = results.layout.champion
    today = results.champion
    if today is None or today.unmeasured is not None or beside is None:
        return today
    if beside.done is None:
        return today.model_copy(update={"problem": beside.error})
    name = today.same_as or CHAMPION
    if name in benchmarked.failed:
        error = HoneError.from_dict(benchmarked.failed[name].model_dump())
        return today.model_copy(update={"problem": str(error)})
    metrics = dict(beside.done.metrics)
    if name in benchmarked.measured:
        metrics |= timing_metrics(recipe, benchmarked.measured[name], {}, {})
        metrics["memory/peak_bytes"] = float(benchmarked.memory[name])
    return today.model_copy(update={"metrics": metrics})
