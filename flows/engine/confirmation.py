"""The candidates that were measured again in fresh processes, judged by what that session measured.

A gate on a time is judged again by the second session, because the numbers of the first one are too
good for the candidates that it chose (`tasks/confirm.py`). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...recipe.errors import HoneError
from ...recipe.measures import mlflow_name
from ...recipe.schema import Recipe
from ...tasks.choose import Measured, compare
from ...tasks.confirm import finalists, in_words
from ...tasks.decide import Beside, GateResult, judge, metric_name, primary_batch
from ...tasks.outcome import Again, Candidate, CandidateStatus
from ...tasks.specs.benchmark import CHAMPION, BenchmarkFacts
from .layout import CandidateLayout
from .results import Settled
from .timings import (
    Rounds,
    fastest_rounds,
    scenario_metrics,
    selecting_rounds,
    timing_metrics,
    unmeasured,
)

_TO_UNCOMPRESSED = "latency.ratio_to_uncompressed"


@dataclass(frozen=True)
class Judged:
    """Candidates with their verdicts, and those among which one is picked.

    Attributes:
        candidates: All of them.
        passing: Those that one is picked from.
        alone: Why there is no other, if there is only one.
        said: What the second session measured; empty if there was none.
        rounds: Of the second session, at the main batch size, by name.
    """

    candidates: tuple[Candidate, ...]
    passing: tuple[Measured, ...]
    alone: str = "no other candidate passed every gate"
    said: str = ""
    rounds: dict[str, Rounds] = field(default_factory=dict)


def passing_of(
    recipe: Recipe, candidates: Sequence[Candidate], benchmarked: BenchmarkFacts
) -> tuple[Measured, ...]:
    """The candidates that passed every gate, with the rounds that were timed."""
    return tuple(
        Measured(
            name=c.name,
            metrics=c.metrics,
            rounds=selecting_rounds(recipe, benchmarked, c.name),
        )
        for c in candidates
        if c.status is CandidateStatus.PASSED
    )


def to_measure_again(
    recipe: Recipe,
    passing: Sequence[Measured],
    beside: Beside,
    ways: Sequence[CandidateLayout[Settled]],
) -> tuple[str, ...]:
    """Names of the candidates that the second session times: the best few, and those that a gate or
    `select` compares them with.

    Args:
        recipe: What was asked for.
        passing: Those that passed every gate in the first session.
        beside: With today's champion.
        ways: The layout of all candidates.
    """
    today = beside.champion
    names = list(finalists(recipe, passing, today))
    if not names:
        return ()
    if today is not None and today.same_as is not None:
        names.append(today.same_as)
    if recipe.asks(_TO_UNCOMPRESSED):
        plain = {way.name for way in ways if not way.variant.passes}
        name = metric_name(recipe, "latency.p50_ms", None)
        uncompressed = [c for c in passing if c.name in plain]
        names += [c.name for c in sorted(uncompressed, key=lambda c: c.metrics[name])[:1]]
    return tuple(dict.fromkeys(names))


def confirmed(
    recipe: Recipe,
    ways: Sequence[CandidateLayout[Settled]],
    first: Judged,
    again: BenchmarkFacts,
    beside: Beside,
) -> Judged:
    """The verdicts after the second session.

    Args:
        recipe: What was asked for.
        ways: The layout of all candidates.
        first: The verdicts after the first session.
        again: What the second session measured.
        beside: What candidates are judged beside.
    """
    today = beside.champion
    chosen = finalists(recipe, first.passing, today)
    plain = [way.name for way in ways if not way.variant.passes]
    champion = CHAMPION if today is None or today.same_as is None else today.same_as
    others = (
        fastest_rounds(again, plain) if recipe.asks(_TO_UNCOMPRESSED) else {},
        fastest_rounds(again, [champion] if today is not None else []),
    )
    before = {measured.name: measured for measured in first.passing}
    select = metric_name(recipe, recipe.select.metric, recipe.select.batch_size)
    candidates, measured = list(first.candidates), []
    for index, (way, candidate) in enumerate(zip(ways, first.candidates, strict=True)):
        if candidate.name not in chosen:
            continue
        if candidate.name in again.failed:
            error = HoneError.from_dict(again.failed[candidate.name].model_dump())
            candidates[index] = candidate.model_copy(
                update={
                    "status": CandidateStatus.FAILED,
                    "error": f"benchmark again: {error}",
                    "gates": (),
                }
            )
            continue
        timings = again.measured[candidate.name]
        reached = scenario_metrics(again, candidate.name)
        reasons = unmeasured(again, candidate.name)
        first_metrics = {n: v for n, v in candidate.metrics.items() if not _is_lost(n, reasons)}
        metrics = {**first_metrics, **timing_metrics(recipe, timings, *others), **reached}
        rounding = None if way.variant.passes else way.target.rounding_db
        around = replace(beside, rounding_db=rounding, unmeasured=reasons)
        gates = judge(recipe, metrics, around)
        candidates[index] = _with_verdict(candidate, gates, metrics)
        earlier = before[candidate.name]
        measured.append(
            Measured(
                name=candidate.name,
                metrics=metrics,
                rounds=selecting_rounds(recipe, again, candidate.name),
                before=earlier.rounds,
                value_before=earlier.metrics.get(select),
            )
        )
    passed = {c.name for c in candidates if c.status is CandidateStatus.PASSED}
    return Judged(
        tuple(candidates),
        tuple(m for m in measured if m.name in passed),
        "no other one passed every gate when it was measured again",
        in_words(recipe, measured, today),
        {m.name: again.timing(m.name, primary_batch(recipe)).rounds for m in measured},
    )


def _is_lost(name: str, reasons: dict[str, str]) -> bool:
    """Whether the second session could not measure what the first one did."""
    return any(name.startswith(mlflow_name(measure)) for measure in reasons)


def _with_verdict(
    candidate: Candidate, gates: tuple[GateResult, ...], metrics: dict[str, float]
) -> Candidate:
    """A candidate with what the second session measured; with its verdicts if it fails a gate."""
    again = Again(
        p50_ms=metrics["latency/p50_ms"],
        p50_ms_low=metrics["latency/p50_ms_low"],
        p50_ms_high=metrics["latency/p50_ms_high"],
    )
    if all(gate.passed for gate in gates):
        return candidate.model_copy(update={"again": again})
    before = {(gate.metric, gate.limit): gate.value for gate in candidate.gates}
    said = tuple(
        gate if gate.passed else _failed_again(gate, before.get((gate.metric, gate.limit)))
        for gate in gates
    )
    return candidate.model_copy(
        update={"again": again, "gates": said, "status": CandidateStatus.GATED}
    )


def _failed_again(gate: GateResult, before: float | None) -> GateResult:
    first = "" if before is None else f", {before:.4g} before"
    return gate.model_copy(update={"said": f"measured again in fresh processes{first}"})


def beside_winner(
    recipe: Recipe,
    candidate: Candidate,
    winner: Measured | None,
    judged: Judged,
    benchmarked: BenchmarkFacts,
) -> Candidate:
    """A candidate with how long it takes as a multiple of the winner's time, in the last session
    that timed both.
    """
    if winner is None or candidate.name == winner.name or not candidate.status.is_measured:
        return candidate
    size = primary_batch(recipe)
    rounds = benchmarked.timing(candidate.name, size).rounds
    first = compare(rounds, benchmarked.timing(winner.name, size).rounds)
    if candidate.again is None or not {candidate.name, winner.name} <= set(judged.rounds):
        return candidate.model_copy(update={"against_winner": first})
    return candidate.model_copy(
        update={
            "against_winner": compare(judged.rounds[candidate.name], judged.rounds[winner.name]),
            "again": candidate.again.model_copy(update={"against_winner_before": first}),
        }
    )
