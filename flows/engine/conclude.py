"""Conclude: from finished steps to candidates with verdicts, to the winner, to the registry."""

from __future__ import annotations

import json
from typing import Any

from ...ray_workers.store.file_names import SAMPLES_FILE
from ...recipe.errors import HoneError
from ...recipe.schema import Recipe
from ...tasks.benchmark.benchmark import BASELINE
from ...tasks.decide import Measured, judge, pick, primary_batch
from ...tasks.outcome import ArtifactSaid, Candidate, Champion, Outcome
from ...tasks.steps import runtime_of
from ...tasks.tracking.registry import promote
from ...tasks.tracking.runtime_wheel import requirements_of
from ...tasks.tracking.tracker import PARENT
from .layout import CandidateWay, Way
from .prefect_tasks import Future, Steps
from .runner import Runner, StepResult
from .session import Session


def conclude(
    recipe: Recipe,
    session: Session,
    runner: Runner,
    run_id: str,
    tags: dict[str, str],
    way: Way[Future],
    benchmark: Future | None,
    steps: Steps,
) -> Outcome:
    """Judge every candidate, tell MLflow, and promote the winner.

    Raises:
        HoneError: The winner could not be registered.
    """
    session.observer.phase("decides and promotes")
    facts = benchmark.result().done.facts if benchmark is not None else {}
    best_plain = _fastest_uncompressed(recipe, way, facts)
    candidates = tuple(
        _candidate(recipe, candidate, facts, best_plain) for candidate in way.candidates
    )
    size = str(primary_batch(recipe))
    passing = [
        Measured(name=c.name, metrics=c.metrics, rounds=facts["measured"][c.name][size]["rounds"])
        for c in candidates
        if c.status == "passed"
    ]
    winner, why = pick(recipe, passing)
    if not facts.get("measured"):
        why = "no candidate could be measured"
    checked = _result(way.check)
    _describe_data(recipe, runner, way, checked)
    for candidate, entry in zip(way.candidates, candidates, strict=True):
        _track_candidate(recipe, session, runner, candidate, entry, checked)
    champion = None
    if winner is not None:
        chosen = next(c for c in candidates if c.name == winner.name)
        champion = _promote(recipe, session, runner, chosen, tags, run_id)
    results = steps.results()
    outcome = Outcome(
        recipe=recipe.name,
        recipe_digest=recipe.digest(),
        run_id=run_id,
        champion=champion,
        why=why,
        baseline=_baseline(recipe, way, facts),
        candidates=candidates,
        seconds={r.label: round(r.done.seconds, 3) for r in results if not r.cached},
        cached=tuple(r.label for r in results if r.cached),
        notes=tuple(runner.notes),
    )
    _track_outcome(recipe, runner, outcome)
    return outcome


def _result(future: Future) -> StepResult:
    result = future.result()
    assert isinstance(result, StepResult)
    return result


def _fastest_uncompressed(
    recipe: Recipe, way: Way[Future], facts: dict[str, Any]
) -> dict[str, list[list[float]]]:
    """For each batch size the rounds of the fastest candidate without passes (s)."""
    measured = facts.get("measured", {})
    plain = [c.name for c in way.candidates if not c.variant.passes and c.name in measured]
    found: dict[str, list[list[float]]] = {}
    for size in map(str, recipe.benchmark.batch_sizes):
        if plain:
            fastest = min(plain, key=lambda name: float(measured[name][size]["p50_ms"]))
            found[size] = measured[fastest][size]["rounds"]
    return found


def _candidate(
    recipe: Recipe,
    way: CandidateWay[Future],
    facts: dict[str, Any],
    best_plain: dict[str, list[list[float]]],
) -> Candidate:
    fields: dict[str, Any] = {
        "name": way.name,
        "variant": way.variant.name,
        "target": way.target.name,
    }
    if way.unavailable is not None:
        return Candidate(**fields, status="skipped", error=way.unavailable.reason)
    for future in way.steps:
        future.wait()
    done = [_result(future) for future in way.steps if future.state.is_completed()]
    fields["notes"] = tuple(text for result in done for text in result.done.notes)
    if way.compiled is not None and way.compiled.state.is_completed():
        artifact = _result(way.compiled).artifact("model")
        fields["artifact"] = ArtifactSaid(
            uri=artifact.uri, sha256=artifact.sha256, bytes=artifact.bytes
        )
    broken = next((f for f in way.steps if not f.state.is_completed()), None)
    if broken is not None:
        return Candidate(**fields, status="failed", error=_why(broken))
    assert way.validated is not None
    metrics = dict(_result(way.validated).done.metrics)
    if way.name in facts.get("failed", {}):
        error = str(HoneError.from_dict(facts["failed"][way.name]))
        return Candidate(**fields, status="failed", error=f"benchmark: {error}", metrics=metrics)
    metrics |= timing_metrics(recipe, facts["measured"][way.name], best_plain)
    metrics["memory/peak_bytes"] = float(facts["memory"][way.name])
    gates = judge(recipe, metrics)
    status = "passed" if all(gate.passed for gate in gates) else "gated"
    return Candidate(**fields, status=status, metrics=metrics, gates=gates)


def timing_metrics(
    recipe: Recipe, measured: dict[str, Any], best_plain: dict[str, list[list[float]]]
) -> dict[str, float]:
    """MLflow's names for the timings: plain ones for the main batch size, and one for each size."""
    from ...tasks.benchmark.statistics import ratio

    metrics: dict[str, float] = {}
    for size, said in measured.items():
        found = {
            "latency/p50_ms": said["p50_ms"],
            "latency/p50_low_ms": said["p50_low_ms"],
            "latency/p50_high_ms": said["p50_high_ms"],
            "latency/p90_ms": said["p90_ms"],
            "latency/p99_ms": said["p99_ms"],
            "latency/calls": said["calls"],
            "latency/ratio": said["ratio"],
            "latency/ratio_low": said["ratio_low"],
            "latency/ratio_high": said["ratio_high"],
            "throughput/samples_per_s": said["samples_per_s"],
        }
        if size in best_plain:
            value, low, high = ratio(best_plain[size], said["rounds"])
            found["latency/ratio_to_uncompressed"] = value
            found["latency/ratio_to_uncompressed_low"] = low
            found["latency/ratio_to_uncompressed_high"] = high
        if int(size) == primary_batch(recipe):
            metrics |= found
        metrics |= {f"{name}_batch_{size}": value for name, value in found.items()}
    return metrics


def _why(future: Future) -> str:
    """The error of a step, or of the one before it that it waited for."""
    error = future.result(raise_on_failure=False)
    return str(error) if isinstance(error, HoneError) else str(future.state.message or error)


def _baseline(recipe: Recipe, way: Way[Future], facts: dict[str, Any]) -> dict[str, float]:
    if not way.reference.state.is_completed():
        return {}
    metrics = dict(_result(way.reference).done.metrics)
    if BASELINE in facts.get("measured", {}):
        metrics |= timing_metrics(recipe, facts["measured"][BASELINE], {})
        metrics["memory/peak_bytes"] = float(facts["memory"][BASELINE])
    metrics["size/bytes"] = float(_result(way.train).artifact("weights").bytes)
    return metrics


def _describe_data(recipe: Recipe, runner: Runner, way: Way[Future], checked: StepResult) -> None:
    facts = checked.done.facts
    source = recipe.data.model_dump(mode="json")
    for ref, contexts in (("train", ["training", "validation"]), (PARENT, ["evaluation"])):
        runner.tracker.dataset(
            ref,
            {
                "name": facts["data"]["name"],
                "digest": checked.artifact("samples").sha256[:12],
                "source": source,
                "profile": facts["data"]["sizes"],
                "contexts": contexts,
            },
        )
    weights = _result(way.train).artifact("weights")
    if not _result(way.train).cached:
        runner.tracker.folder("train", runner.session.store.fetch(weights), "weights")
    runner.tracker.tags("train", {"hone.sha256": weights.sha256})
    runner.tracker.params(PARENT, checked.done.params)


def _track_candidate(
    recipe: Recipe,
    session: Session,
    runner: Runner,
    way: CandidateWay[Future],
    entry: Candidate,
    checked: StepResult,
) -> None:
    tracker = runner.tracker
    tags: dict[str, str] = {"hone.status": entry.status}
    if entry.error:
        tags["hone.error"] = entry.error
    for gate in entry.gates:
        tags[f"hone.gate.{gate.metric}".replace("(", "").replace(")", "")] = (
            "passed" if gate.passed else "failed"
        )
    for future in way.shared:
        if future.state.is_completed() and _result(future).step.told_by_candidates:
            done = _result(future).done
            tracker.params(entry.name, done.params)
            tracker.metrics(entry.name, done.metrics)
            if "sensitivity" in done.outputs:
                found = session.store.fetch(done.outputs["sensitivity"])
                tracker.folder(entry.name, found, "sensitivity")
    if entry.artifact is not None:
        tags["hone.sha256"] = entry.artifact.sha256
    tracker.tags(entry.name, tags)
    if entry.artifact is not None and entry.status in ("passed", "gated"):
        tracker.model(entry.name, model_fields(recipe, session, way, entry, checked))
    linked = entry.name if entry.artifact is not None and entry.status != "failed" else None
    tracker.metrics(entry.name, entry.metrics, model=linked)
    if entry.gates:
        gates = [gate.model_dump(mode="json") for gate in entry.gates]
        tracker.text(entry.name, json.dumps(gates, indent=1), "verdict.json")
    finished = entry.status in ("passed", "gated")
    tracker.finish(entry.name, "FINISHED" if finished else "FAILED")


def model_fields(
    recipe: Recipe,
    session: Session,
    way: CandidateWay[Future],
    entry: Candidate,
    checked: StepResult,
) -> dict[str, Any]:
    """What a LoggedModel of a candidate is made of."""
    assert way.compiled is not None
    assert entry.artifact is not None
    artifact = _result(way.compiled).artifact("model")
    facts = checked.done.facts
    samples = session.store.fetch(checked.artifact("samples")) / SAMPLES_FILE
    return {
        "name": entry.name.replace("@", "-"),
        "folder": str(session.store.fetch(artifact)),
        "target": way.target.kind,
        "sha256": artifact.sha256,
        "options": {"threads": recipe.benchmark.threads},
        "inputs": facts["inputs"],
        "output": facts["output"],
        "example": str(samples),
        "requirements": requirements_of(runtime_of(way.target.kind)),
        "params": {
            "variant": entry.variant,
            "target": entry.target,
            "recipe_digest": recipe.digest(),
        },
        "tags": {"hone.sha256": artifact.sha256, "hone.candidate": entry.name},
    }


def _promote(
    recipe: Recipe,
    session: Session,
    runner: Runner,
    chosen: Candidate,
    tags: dict[str, str],
    run_id: str,
) -> Champion:
    tracker = runner.tracker
    if not tracker.flush(seconds=180):
        raise HoneError(
            "MLflow does not answer; the winner is measured but not registered",
            where=session.settings.tracking,
            do="run again when it is back: nothing is computed twice",
        )
    model_id = tracker.model_id(chosen.name)
    if model_id is None or chosen.artifact is None:
        raise HoneError(
            f"MLflow did not take the model of {chosen.name}; nothing was promoted",
            where=session.settings.tracking,
            do="; ".join(tracker.problems) or None,
        )
    verdict = [gate.model_dump(mode="json") for gate in chosen.gates]
    promotion = promote(
        session.settings.tracking,
        recipe.registry.model,
        recipe.registry.alias,
        model_id,
        chosen.artifact.sha256,
        {
            "hone.recipe": recipe.name,
            "hone.recipe_digest": recipe.digest(),
            "hone.sha256": chosen.artifact.sha256,
            "hone.candidate": chosen.name,
            "hone.verdict": json.dumps(verdict)[:4900],
            "hone.parent_run": run_id,
            "hone.source_commit": tags["hone.source_commit"],
        },
    )
    return Champion(
        candidate=chosen.name,
        model=promotion.model,
        version=promotion.version,
        alias=promotion.alias,
        new=promotion.new,
        previous=promotion.previous,
    )


def _track_outcome(recipe: Recipe, runner: Runner, outcome: Outcome) -> None:
    from ...tasks.report.table import markdown, markdown_table

    tracker = runner.tracker
    tracker.text(PARENT, json.dumps(outcome.to_json(), indent=1), "outcome.json")
    tracker.text(PARENT, markdown(outcome, recipe), "outcome.md")
    tags = {"hone.why": outcome.why, "mlflow.note.content": markdown_table(outcome, recipe)}
    if outcome.champion is not None:
        tags["hone.champion"] = outcome.champion.candidate
        tags["hone.champion_version"] = outcome.champion.version
        best = next(c for c in outcome.candidates if c.name == outcome.champion.candidate)
        tracker.metrics(PARENT, {f"champion/{name}": v for name, v in best.metrics.items()})
    tracker.tags(PARENT, tags)
    tracker.metrics(PARENT, {f"baseline/{name}": v for name, v in outcome.baseline.items()})
