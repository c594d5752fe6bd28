"""Conclude: from the results of steps to candidates with verdicts, and to the one that wins.

Pure: the result depends on the arguments alone, and there are no side effects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...ray_workers.dispatch import Done
from ...recipe.errors import HoneError
from ...recipe.measures import MEASURES, mlflow_name
from ...recipe.schema import Recipe
from ...tasks.choose import pick
from ...tasks.decide import Beside, gates_by, judge
from ...tasks.departures import departure_of
from ...tasks.outcome import ArtifactSaid, Candidate, CandidateStatus, Outcome
from ...tasks.specs.benchmark import BASELINE, CHAMPION, BenchmarkFacts
from ...tasks.specs.compress import Coverage
from ...tasks.specs.layer_parity import LayerParityFacts
from ...tasks.specs.validate import CompareFacts, ValidateFacts
from ...tasks.todays_champion import TodaysChampion
from .confirmation import Judged, beside_winner, confirmed, passing_of, to_measure_again
from .layout import CandidateLayout
from .looks import look_metrics, look_notes, not_looked_at
from .results import Results, Settled
from .timings import (
    Rounds,
    fastest_rounds,
    process_metrics,
    scenario_metrics,
    timing_metrics,
    unmeasured,
    unmeasured_in_short,
)


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

    @property
    def beside(self) -> Beside:
        """What candidates are judged beside."""
        return Beside(baseline=self.baseline, champion=self.today)


def conclude(recipe: Recipe, run_id: str, results: Results) -> Outcome:
    """Judge every candidate, and say which one wins and why. Nothing is promoted yet.

    Args:
        recipe: What was asked for.
        run_id: MLflow's id of the parent run.
        results: The results of its steps.
    """
    measured = _measurements(recipe, results)
    benchmarked, final = measured.benchmarked, _judged(measured, results)
    candidates = final.candidates
    winner, why = pick(recipe, final.passing, measured.today, len(candidates), final.alone)
    if not any(way.name in benchmarked.measured for way in results.layout.candidates):
        why = "no candidate could be measured"
    elif winner is None and final.said:
        why = "no candidate passed every gate when it was measured again"
    elif winner is None:
        why += _no_rate(recipe, benchmarked)
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
        candidates=tuple(beside_winner(recipe, c, winner, final, benchmarked) for c in candidates),
        seconds={r.label: round(r.done.seconds, 3) for r in results.steps if not r.cached},
        cached=tuple(r.label for r in results.steps if r.cached),
        notes=results.notes,
        today=measured.today,
        select=recipe.select.metric,
        metric=recipe.quality.name,
        gates_by=gates_by(recipe),
        confirmed=final.said,
        not_looked_at=not_looked_at(recipe, results),
    )


def _no_rate(recipe: Recipe, benchmarked: BenchmarkFacts) -> str:
    """Why no candidate has a value of what `select` or a gate asks of a scenario."""
    asked = {name.removesuffix("_low").removesuffix("_high") for name, _ in recipe.asked}
    told = [
        f"{name}: {reason}"
        for name in benchmarked.scenarios
        for measure, reason in unmeasured(benchmarked, name).items()
        if measure in asked
    ]
    return f" ({'; '.join(dict.fromkeys(told))})" if told else ""


def measured_next(recipe: Recipe, results: Results) -> tuple[str, ...]:
    """The candidates that are timed again before one wins, from the results of all other steps."""
    measured = _measurements(recipe, results)
    first, ways = _judged_first(measured, results), results.layout.candidates
    return to_measure_again(recipe, first.passing, measured.beside, ways)


def _judged(measured: _Measurements, results: Results) -> Judged:
    """The verdicts after the last session of the benchmark."""
    first = _judged_first(measured, results)
    if results.confirmed is None:
        return first
    again = results.confirmed.done.facts_as(BenchmarkFacts)
    return confirmed(measured.recipe, results.layout.candidates, first, again, measured.beside)


def _judged_first(measured: _Measurements, results: Results) -> Judged:
    candidates = tuple(_candidate(measured, way) for way in results.layout.candidates)
    return Judged(candidates, passing_of(measured.recipe, candidates, measured.benchmarked))


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
        fastest_rounds(benchmarked, plain),
        _baseline(recipe, results, benchmarked),
        today,
        fastest_rounds(benchmarked, timed),
        drops.drops,
    )


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
    metrics = dict(_done(way.validated).metrics) | look_metrics(way)
    candidate = _with(candidate, notes=(*candidate.notes, *look_notes(way)))
    if way.name in benchmarked.failed:
        error = HoneError.from_dict(benchmarked.failed[way.name].model_dump())
        return _with(candidate, error=f"benchmark: {error}", metrics=metrics)
    timings = benchmarked.measured[way.name]
    metrics |= timing_metrics(recipe, timings, measured.uncompressed, measured.champion)
    metrics |= process_metrics(benchmarked, way.name) | scenario_metrics(benchmarked, way.name)
    metrics |= _coverage(way)
    metrics |= _from_champion(measured, way.name, metrics)
    rounding = None if way.variant.passes else way.target.rounding_db
    reasons = unmeasured(benchmarked, way.name)
    beside = replace(measured.beside, rounding_db=rounding, unmeasured=reasons)
    gates = judge(recipe, metrics, beside)
    passed = all(gate.passed for gate in gates)
    status = CandidateStatus.PASSED if passed else CandidateStatus.GATED
    doubt = suspicion(recipe, metrics, measured.baseline)
    return _with(
        candidate,
        status=status,
        metrics=metrics,
        unmeasured=unmeasured_in_short(benchmarked, way.name),
        gates=gates,
        suspicious=doubt,
        departs=_departure(way, metrics.get("parity/sqnr_db")),
        worst_group=_worst_group(way),
    )


def _worst_group(way: CandidateLayout[Settled]) -> str | None:
    """The group that lost most, if any did."""
    groups = _done(way.validated).facts_as(ValidateFacts).groups
    return str(groups[0]) if groups and groups[0].drop > 0 else None


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


def _baseline(recipe: Recipe, results: Results, benchmarked: BenchmarkFacts) -> dict[str, float]:
    if results.layout.reference.done is None:
        return {}
    metrics = dict(results.layout.reference.done.metrics)
    if BASELINE in benchmarked.measured:
        metrics |= timing_metrics(recipe, benchmarked.measured[BASELINE], {}, {})
        metrics |= process_metrics(benchmarked, BASELINE)
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
        metrics |= process_metrics(benchmarked, name) | scenario_metrics(benchmarked, name)
    return today.model_copy(update={"metrics": metrics})
