"""The report of a run: gathered from the results of its steps, drawn, and recorded in MLflow."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

from ..._version import __version__
from ...ray_workers.scratch import scratch_folder
from ...ray_workers.store.artifacts import Artifact, ArtifactCorrupted, Store
from ...recipe.library_messages import telling
from ...recipe.strict import Strict
from ...tasks.keys import closure, library_version, source_digest
from ...tasks.outcome import Outcome
from ...tasks.report import figures, look_figures
from ...tasks.report.card import model_card
from ...tasks.report.contents import DataSaid, Report, StepMade
from ...tasks.report.page import page
from ...tasks.report.pictures import Pictures, draw, draw_pareto
from ...tasks.report.provenance import statement
from ...tasks.specs.benchmark import BenchmarkFacts
from ...tasks.specs.check import CheckFacts
from ...tasks.specs.compress import QuantizeFacts
from ...tasks.specs.explanation import ExplainedFacts, ExplanationFacts
from ...tasks.specs.robustness import RobustnessFacts
from ...tasks.specs.train import TrainFacts
from ...tasks.specs.validate import ValidateFacts
from ...tasks.tracking import names
from ...tasks.tracking.names import PARENT
from ...tasks.tracking.statements import PROVENANCE
from .conclude import layer_parity_of
from .layout import CandidateLayout
from .looks import F, look_facts
from .results import Results, Settled, StepResult
from .run import Run

#: Files of the report in the parent run.
PAGE, CONTENTS, CARD = "report.html", "report.json", "model_card.md"
PICTURES, PICTURE = "pictures", "pareto.png"
_LIBRARIES = (
    "torch", "ray", "prefect", "mlflow", "onnx", "onnxruntime", "openvino", "nncf",
    "torch-pruning", "torchao", "transformers", "numpy",
)  # fmt: skip


class Drawn(Strict):
    """Pictures as they are kept in the store.

    Attributes:
        pictures: Of the page.
        pareto: The artifact with the Pareto picture as PNG.
    """

    pictures: Pictures
    pareto: Artifact | None


def report_of(run: Run, results: Results, outcome: Outcome) -> Report:
    """Gather what the page shows.

    Args:
        run: The run.
        results: The results of its steps.
        outcome: What came of it.
    """
    recipe = run.recipe
    checked = results.layout.check.done
    assert checked is not None  # noqa: S101 (without it there is no outcome)
    facts = CheckFacts.model_validate(checked.facts)
    trained = results.layout.train.done
    curves = TrainFacts.model_validate(trained.facts).curves if trained and trained.facts else {}
    measured = BenchmarkFacts()
    if results.benchmark is not None:
        measured = results.benchmark.done.facts_as(BenchmarkFacts)
    quantized = {way.name: _quantized(way) for way in results.layout.candidates}
    return Report(
        outcome=outcome,
        recipe=recipe,
        timings=measured.measured,
        scenarios=measured.scenarios,
        curves=curves,
        sensitivity={n: q.sensitivity_db for n, q in quantized.items() if q and q.sensitivity_db},
        judged={
            way.name: way.validated.done.facts_as(ValidateFacts)
            for way in results.layout.candidates
            if way.validated is not None and way.validated.done is not None
        },
        layers={
            way.name: found
            for way in results.layout.candidates
            if (found := layer_parity_of(way)) is not None
        },
        robustness=_looks(results, RobustnessFacts),
        explained=_explained(results),
        explanations=_looks(results, ExplanationFacts),
        left_alone={
            n: {one.layer: f"{one.operator}: {one.left_because}" for one in q.coverage.left}
            for n, q in quantized.items()
            if q and q.coverage and q.coverage.left
        },
        data=DataSaid(name=facts.data.name, sizes=facts.data.sizes),
        parameters=facts.parameters,
        steps=tuple(map(_made, results.steps)),
        environment=_environment(run, measured),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _looks(results: Results, kind: type[F]) -> dict[str, F]:
    """What was found out of each candidate of which it was looked at."""
    found = {way.name: look_facts(way, kind) for way in results.layout.candidates}
    return {name: facts for name, facts in found.items() if facts is not None}


def _explained(results: Results) -> ExplainedFacts | None:
    step = results.layout.shared.explained
    if step is None or step.handle.done is None:
        return None
    return step.handle.done.facts_as(ExplainedFacts)


def _made(step: StepResult) -> StepMade:
    return StepMade(
        label=step.label,
        key=step.key,
        cached=step.cached,
        seconds=step.done.seconds,
        outputs={name: artifact.sha256 for name, artifact in step.done.outputs.items()},
    )


def _quantized(way: CandidateLayout[Settled]) -> QuantizeFacts | None:
    """What the quantization of a candidate found out."""
    for step in way.shared:
        if step.result is not None and step.result.step.facts is QuantizeFacts:
            return step.result.done.facts_as(QuantizeFacts)
    return None


def _environment(run: Run, measured: BenchmarkFacts) -> dict[str, str]:
    versions = {name: library_version(name) for name in _LIBRARIES}
    return {
        "processor": measured.processor,
        **({"timed slices": str(measured.others)} if measured.others.slices else {}),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "source": run.tags.get(names.SOURCE_COMMIT, ""),
        "hone": __version__,
        **{name: version for name, version in versions.items() if version != "none"},
    }


def record_report(run: Run, results: Results, outcome: Outcome) -> Artifact | None:
    """Record the report and the provenance of every candidate in MLflow.

    The winner may be the champion by now, so a report that can't be made is told, and the run goes
    on.

    Returns:
        The Pareto picture, for others who show it.
    """
    try:
        report = report_of(run, results, outcome)
        record_provenance(run, report, results)
        return record_page(run, report).pareto
    except Exception as error:
        run.runner.note(f"the report could not be made: {telling(error)}")
        return None


def record_page(run: Run, report: Report) -> Drawn:
    """The page, its contents, the model card and the Pareto picture, in the run's page in MLflow.

    Returns:
        The pictures, for others who show them.
    """
    drawn = _drawn(report, run.session.store)
    tracker = run.tracker
    tracker.text(PARENT, page(report, drawn.pictures), PAGE)
    tracker.text(PARENT, report.model_dump_json(indent=1), CONTENTS)
    tracker.text(PARENT, model_card(report), CARD)
    if drawn.pareto is not None:
        tracker.folder(PARENT, run.session.store.fetch(drawn.pareto), PICTURES)
    return drawn


def record_provenance(run: Run, report: Report, results: Results) -> None:
    """An in-toto statement on each candidate, in its own run in MLflow."""
    checked = results.layout.check.done
    given = {} if checked is None else {"samples": checked.outputs["samples"].sha256}
    if run.runner.code is not None:
        given["code"] = run.runner.code.sha256
    shared = (results.layout.check, results.layout.train, results.layout.reference)
    known = {candidate.name: candidate for candidate in report.outcome.candidates}
    for way in results.layout.candidates:
        taken = [step.result for step in (*shared, *way.steps) if step.result is not None]
        taken += [one for one in (results.benchmark, results.confirmed) if one is not None]
        steps = {step.label: _made(step) for step in taken}
        said = statement(report, known[way.name], list(steps.values()), given)
        if said is not None:
            run.tracker.text(way.name, json.dumps(said, indent=1), PROVENANCE)


def _drawn(report: Report, store: Store) -> Drawn:
    """The pictures: those that are kept, or drawn now."""
    name = f"steps/figures/{_pictures_key(report)}.json"
    kept = store.read_record(name)
    if kept is not None:
        with contextlib.suppress(ValueError, ArtifactCorrupted):
            found = Drawn.model_validate(kept)
            picture = None if found.pareto is None else store.located(found.pareto)
            if picture is not None:
                store.fetch(picture)  # it may be gone
            store.mark_used(name)
            return Drawn(pictures=found.pictures, pareto=picture)
    drawn = Drawn(pictures=draw(report), pareto=_keep(draw_pareto(report), store))
    store.write_record(name, drawn.model_dump(mode="json"))
    return drawn


def _pictures_key(report: Report) -> str:
    """Digest of everything that the pictures depend on."""
    shown = report.model_dump(
        mode="json",
        include={
            "outcome": {"candidates", "baseline", "winner"},
            "timings": True, "curves": True, "sensitivity": True, "left_alone": True,
            "layers": True, "judged": True, "robustness": True,
        },
    )  # fmt: skip
    parts = {
        "shown": shown,
        "recipe": report.recipe.digest(),
        "code": source_digest(closure(figures.__name__, look_figures.__name__).modules),
        "matplotlib": library_version("matplotlib"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _keep(picture: bytes | None, store: Store) -> Artifact | None:
    if picture is None:
        return None
    with scratch_folder("figures") as folder:
        (folder / PICTURE).write_bytes(picture)
        return store.put(folder, "picture")


def as_data_url(store: Store, picture: Artifact) -> str:
    """The Pareto picture as a URL that holds it."""
    content = (Path(store.fetch(picture)) / PICTURE).read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
