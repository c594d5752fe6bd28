"""Record: the request and the results of a run, in MLflow. It decides nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import yaml
from prefect.exceptions import MissingContextError
from prefect.runtime import flow_run

from ..._version import __version__
from ...ray_workers.store.file_names import REAL_PROOF, SAMPLES_FILE, SYNTHETIC_PROOF
from ...recipe.errors import HoneError, ServerUnreachable
from ...recipe.measures import MEASURES, mlflow_name
from ...recipe.schema import Recipe
from ...tasks.keys import library_version
from ...tasks.outcome import Candidate, Champion, Outcome, Pending
from ...tasks.report.descriptions import (
    model_description,
    run_description,
    version_description,
)
from ...tasks.report.table import markdown
from ...tasks.specs.check import CheckFacts
from ...tasks.steps import runtime_of
from ...tasks.tracking import names
from ...tasks.tracking.entries import (
    DatasetEntry,
    ModelEntry,
    RunStatus,
)
from ...tasks.tracking.names import PARENT, TRAINING
from ...tasks.tracking.registry import Promotable, Promotion, Registered
from ...tasks.tracking.runtime_wheel import requirements_of
from .lay_out import candidate_name
from .layout import CandidateLayout
from .results import Results, Settled, StepResult
from .run import Run
from .session import Session
from .source_commit import source_commit


def run_tags(recipe: Recipe, session: Session, flow: str = "accelerate") -> dict[str, str]:
    """Tags of the parent run: its kind and origin.

    Args:
        recipe: The recipe.
        session: The session.
        flow: The flow that runs it.
    """
    folder = session.code or session.place
    commit = source_commit(folder) if folder is not None else None
    tags = {
        **_recipe_tags(recipe),
        names.KIND: "pipeline" if flow == "accelerate" else flow,
        names.VERSION: __version__,
        names.MLFLOW_SOURCE: f"prefect_hone.flows.{flow}",
        names.SOURCE_COMMIT: commit or f"prefect-hone {__version__}",
    }
    with contextlib.suppress(MissingContextError):
        tags[names.FLOW_RUN] = str(flow_run.id or "")
    return {name: value for name, value in tags.items() if value}


def record_start(run: Run) -> None:
    """Record the recipe, and start a run for training and for each candidate."""
    record_training_start(run)
    recipe, tracker = run.recipe, run.tracker
    tracker.params(
        PARENT,
        {
            "variants": ", ".join(v.name for v in recipe.variants),
            "targets": ", ".join(t.name for t in recipe.targets),
        },
    )
    _start_candidates(run)


def record_training_start(run: Run) -> None:
    """Record the recipe, and start a run for training."""
    recipe, tracker = run.recipe, run.tracker
    plain = recipe.model_dump(mode="json")
    tracker.text(PARENT, yaml.safe_dump(plain, sort_keys=False), "recipe.yaml")
    if run.runner.code is not None:
        tracker.folder(PARENT, run.session.store.fetch(run.runner.code), "code")
    flat = {
        "model/factory": recipe.model.factory,
        **({"model/source": recipe.model.source} if recipe.model.source else {}),
        "data/factory": recipe.data.factory,
        "quality/metric": recipe.quality.metric,
    }
    tracker.params(PARENT, flat)
    tracker.child(TRAINING, TRAINING, {**_recipe_tags(recipe), names.KIND: "train"})
    tracker.params(TRAINING, _flat("train", recipe.train.model_dump(mode="json")))


def _start_candidates(run: Run) -> None:
    recipe, tracker = run.recipe, run.tracker
    for variant in recipe.variants:
        for target in recipe.targets:
            name = candidate_name(variant, target)
            tags = {
                **_recipe_tags(recipe),
                names.KIND: "candidate",
                names.CANDIDATE: name,
                names.VARIANT: variant.name,
                names.TARGET: target.name,
            }
            tracker.child(name, name, tags)
            passes = [step.model_dump(mode="json") for step in variant.passes]
            settings = target.model_dump(mode="json")
            tracker.params(
                name,
                {
                    "variant": variant.name,
                    "target": target.name,
                    "passes": passes or "none",
                    **{f"target/{key}": value for key, value in settings.items()},
                },
            )


def _recipe_tags(recipe: Recipe) -> dict[str, str]:
    return {names.RECIPE: recipe.name, names.RECIPE_DIGEST: recipe.digest()}


def _flat(prefix: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v for name, inner in value.items() for k, v in _flat(f"{prefix}/{name}", inner).items()
    }


def record_results(run: Run, results: Results, outcome: Outcome) -> None:
    """Record the data, the trained model, and every candidate with its verdict and its model."""
    checked = _of(results.layout.check)
    _record_data(run, checked)
    _record_weights(run, _of(results.layout.train))
    for way, candidate in zip(results.layout.candidates, outcome.candidates, strict=True):
        _record_candidate(run, way, candidate, checked)


def record_training(
    run: Run, checked: StepResult, trained: StepResult, reference: StepResult
) -> None:
    """Record the data, the trained model and its quality, in the run's own page too."""
    _record_data(run, checked)
    _record_weights(run, trained)
    run.tracker.metrics(PARENT, _in_order(reference.done.metrics, run.recipe))
    run.tracker.finish(TRAINING, RunStatus.FINISHED)
    run.status = RunStatus.FINISHED


def _of(step: Settled) -> StepResult:
    assert step.result is not None, "there are no candidates without it"  # noqa: S101 (narrows a type)
    return step.result


def _record_data(run: Run, checked: StepResult) -> None:
    data = checked.done.facts_as(CheckFacts).data
    for ref, context in ((TRAINING, "training"), (PARENT, "evaluation")):
        run.tracker.dataset(
            DatasetEntry(
                ref=ref,
                name=data.name,
                digest=checked.artifact("samples").sha256[:12],
                source=run.recipe.data.model_dump(mode="json"),
                profile=data.sizes,
                contexts=(context,),
            )
        )
    run.tracker.params(PARENT, checked.done.params)


def _record_weights(run: Run, trained: StepResult) -> None:
    weights = trained.artifact("weights")
    if not trained.cached:
        run.tracker.folder(TRAINING, run.session.store.fetch(weights), "weights")
    run.tracker.tags(TRAINING, {names.SHA256: weights.sha256})


def _record_candidate(
    run: Run, way: CandidateLayout[Settled], candidate: Candidate, checked: StepResult
) -> None:
    tracker = run.tracker
    for step in way.shared:
        if step.result is not None and step.result.step.told_by_candidates:
            done = step.result.done
            tracker.params(candidate.name, done.params)
            tracker.metrics(candidate.name, done.metrics)
            if "sensitivity" in done.outputs:
                folder = run.session.store.fetch(done.outputs["sensitivity"])
                tracker.folder(candidate.name, folder, "sensitivity")
    tags = {names.STATUS: candidate.status.value}
    if candidate.error:
        tags[names.ERROR] = candidate.error
    if candidate.artifact is not None:
        tags[names.SHA256] = candidate.artifact.sha256
    if candidate.suspicious:
        tags[names.SUSPICIOUS] = candidate.suspicious
    for gate in candidate.gates:
        tags[names.gate_tag(gate.metric)] = "passed" if gate.passed else "failed"
    tracker.tags(candidate.name, tags)
    is_model = candidate.artifact is not None and candidate.status.is_measured
    if is_model:
        tracker.model(_model(run, way, candidate, checked))
    metrics = {**candidate.metrics, **_again(candidate)}
    tracker.metrics(candidate.name, metrics, model=candidate.name if is_model else None)
    if candidate.gates:
        gates = [gate.model_dump(mode="json") for gate in candidate.gates]
        tracker.text(candidate.name, json.dumps(gates, indent=1), "verdict.json")
    measured = candidate.status.is_measured
    tracker.finish(candidate.name, RunStatus.FINISHED if measured else RunStatus.FAILED)


def _again(candidate: Candidate) -> dict[str, float]:
    """What the second session of the benchmark measured of a candidate."""
    if candidate.again is None:
        return {}
    found = candidate.again.model_dump(exclude={"against_winner_before"})
    return {f"confirmation/{name}": value for name, value in found.items()}


def _model(
    run: Run, way: CandidateLayout[Settled], candidate: Candidate, checked: StepResult
) -> ModelEntry:
    """The entry of a candidate's LoggedModel."""
    assert way.compiled is not None  # noqa: S101 (narrows a type)
    artifact = _of(way.compiled).artifact("model")
    facts = checked.done.facts_as(CheckFacts)
    target = way.target
    shown = run.recipe.registry.proof
    proof = _proof(run, way)
    return ModelEntry(
        ref=candidate.name,
        name=candidate.name.replace("@", "-"),
        folder=str(run.session.store.fetch(artifact)),
        target=target.kind,
        sha256=artifact.sha256,
        options={"threads": run.recipe.benchmark.threads},
        inputs=facts.inputs,
        output=facts.output,
        outputs=facts.outputs,
        example=(
            str(run.session.store.fetch(checked.artifact("samples")) / SAMPLES_FILE)
            if shown == "inputs"
            else ""
        ),
        proof="" if proof is None else str(proof),
        proof_kind="synthetic" if shown == "synthetic" else "inputs",
        requirements=(
            *requirements_of(runtime_of(target.kind)),
            *(f"{name}=={library_version(name)}" for name in target.packages),
        ),
        params={
            "variant": candidate.variant,
            "target": candidate.target,
            "recipe_digest": run.recipe.digest(),
        },
        tags={names.SHA256: artifact.sha256, names.CANDIDATE: candidate.name},
    )


def _proof(run: Run, way: CandidateLayout[Settled]) -> Path | None:
    """The proof that a candidate's model carries, as the recipe asks for it."""
    shown = run.recipe.registry.proof
    if shown == "off" or way.validated is None:
        return None
    proofs = run.session.store.fetch(_of(way.validated).artifact("proof"))
    folder = proofs / {"inputs": REAL_PROOF, "synthetic": SYNTHETIC_PROOF}[shown]
    if folder.is_dir():
        return folder
    run.session.observer.note(f"{way.name} can't take random inputs, so its model carries no proof")
    return None


def promotable(run: Run, outcome: Outcome) -> Promotable | None:
    """The winner's logged model, and where it goes; None if no candidate won, or nothing
    is to be registered.

    Raises:
        HoneError: MLflow did not accept the model.
        ServerUnreachable: MLflow does not answer.
    """
    winner = outcome.winning
    if winner is None or outcome.promotion == "off":
        return None
    where = run.session.settings.tracking
    if not run.tracker.flush(seconds=180, while_it_takes=True):
        raise run.tracker.disk_error or ServerUnreachable(
            "MLflow did not answer for 3 minutes; the winner is measured but not registered",
            where=where,
            do="run again when it is back: nothing is computed twice",
        )
    model_id = run.tracker.model_id(winner.name)
    if model_id is None or winner.artifact is None:
        raise HoneError(
            f"MLflow did not take the model of {winner.name}; nothing was promoted",
            where=where,
            do="; ".join(run.tracker.problems) or None,
        )
    verdict = [
        gate.model_dump(mode="json", exclude={"said"}, exclude_defaults=True)
        for gate in winner.gates
    ]
    return Promotable(
        model=run.recipe.registry.model,
        alias=run.recipe.registry.alias,
        model_id=model_id,
        sha256=winner.artifact.sha256,
        files=run.tracker.model_files(winner.name),
        recipe_digest=run.recipe.digest(),
        why=outcome.why,
        compared_with=next((g.champion for g in winner.gates if g.champion is not None), None),
        description=version_description(outcome, run.recipe, winner, model_id),
        model_description=model_description(run.recipe),
        tags={
            names.RECIPE: run.recipe.name,
            names.CANDIDATE: winner.name,
            names.VERDICT: json.dumps(verdict)[:4900],
            names.PARENT_RUN: run.run_id,
            names.SOURCE_COMMIT: run.tags[names.SOURCE_COMMIT],
        },
    )


def promoted(outcome: Outcome, promotion: Promotion) -> Outcome:
    """The outcome, with the winner as the registry's champion."""
    assert outcome.winner is not None  # noqa: S101 (narrows a type)
    champion = Champion(candidate=outcome.winner, **promotion.model_dump())
    return outcome.model_copy(update={"champion": champion})


def registered(outcome: Outcome, version: Registered) -> Outcome:
    """The outcome, with the winner as a version whose alias has not moved."""
    assert outcome.winner is not None  # noqa: S101 (narrows a type)
    if version.current == version.version:  # it is the champion already
        champion = Champion(
            candidate=outcome.winner, model=version.model, version=version.version,
            alias=version.alias, new=False, previous=None,
        )  # fmt: skip
        return outcome.model_copy(update={"champion": champion})
    said = version.model_dump(exclude={"new"})
    pending = Pending(candidate=outcome.winner, **said)
    return outcome.model_copy(update={"pending": pending})


def record_outcome(run: Run, outcome: Outcome) -> None:
    """What came of the run, where its page begins."""
    tracker, recipe = run.tracker, run.recipe
    tracker.text(PARENT, json.dumps(outcome.to_json(), indent=1), "outcome.json")
    tracker.text(PARENT, markdown(outcome, recipe), "outcome.md")
    tags = {
        names.WHY: outcome.why,
        names.GATES: outcome.gates_by,
        names.MLFLOW_NOTE: run_description(outcome, recipe),
    }
    if outcome.today is not None:
        tags[names.COMPARED_WITH] = outcome.today.said
        before = _in_order(outcome.today.metrics, recipe)
        metrics = {names.of_todays_champion(n): value for n, value in before.items()}
        tracker.metrics(PARENT, metrics)
    best = outcome.winning
    if best is not None:
        tags[names.WINNER] = best.name
        run.status = RunStatus.FINISHED
    if outcome.champion is not None and best is not None:
        tags[names.CHAMPION] = best.name
        tags[names.CHAMPION_VERSION] = outcome.champion.version
        champion = _in_order(best.metrics, recipe)
        tracker.metrics(PARENT, {names.of_champion(n): value for n, value in champion.items()})
    tracker.tags(PARENT, tags)
    baseline = _in_order(outcome.baseline, recipe)
    tracker.metrics(PARENT, {names.of_baseline(n): value for n, value in baseline.items()})


def _in_order(metrics: dict[str, float], recipe: Recipe) -> dict[str, float]:
    """What a page shows first comes first; other batch sizes are in the candidate's own run."""
    known = [mlflow_name(n, recipe.quality.name) for m in MEASURES.values() for n in m.names]
    return {name: metrics[name] for name in known if name in metrics}
