"""Runs of which nothing is run: steps that are over at once, and a tracker that notes what it is told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect_hone.flows.engine.lay_out import lay_out
from prefect_hone.flows.engine.layout import ChampionEntrant
from prefect_hone.flows.engine.observer import Silent
from prefect_hone.flows.engine.results import Results, Settled, StepResult
from prefect_hone.flows.engine.run import Run
from prefect_hone.flows.engine.runner import Runner
from prefect_hone.flows.engine.session import Session
from prefect_hone.flows.engine.settings import Settings
from prefect_hone.flows.engine.surroundings import Surroundings
from prefect_hone.ray_workers.cluster import Cluster
from prefect_hone.ray_workers.dispatch import Done
from prefect_hone.ray_workers.processor import Processor
from prefect_hone.ray_workers.store.artifacts import Artifact, Store
from prefect_hone.ray_workers.store.seal import OwnerKey
from prefect_hone.recipe.access_policy import AccessPolicy, Origin
from prefect_hone.recipe.factories import Allowed
from prefect_hone.recipe.schema import Recipe
from prefect_hone.runtimes.digest import tree_digest
from prefect_hone.tasks.compile import Unavailable
from prefect_hone.tasks.keys import UserCode
from prefect_hone.tasks.specs.benchmark import BASELINE, BenchmarkFacts, Failure, Timing
from prefect_hone.tasks.specs.check import CheckFacts, DataFact, MemoryFact, TensorFact
from prefect_hone.tasks.specs.validate import CompareFacts
from prefect_hone.tasks.steps import BENCHMARK, CHECK, COMPARE, GIVEN, Call
from prefect_hone.tasks.todays_champion import TodaysChampion
from prefect_hone.tasks.tracking.entries import (
    DatasetEntry,
    FinishEntry,
    FolderEntry,
    JournalEntry,
    MetricEntry,
    ModelEntry,
    ParamsEntry,
    TagsEntry,
    TextEntry,
)
from prefect_hone.tasks.tracking.tracker import Tracker

RECIPE = {
    "name": "wine",
    "model": {"factory": "mine:model"},
    "data": {"factory": "mine:data"},
    "train": {"epochs": 2, "batch_size": 8},
    "variants": [
        {"name": "fp32"},
        {"name": "int8", "passes": [{"kind": "quantize", "scheme": "static-int8"}]},
    ],
    "targets": ["onnxruntime-cpu"],
    "benchmark": {"batch_sizes": [1, 8], "threads": 1},
    "gates": [{"metric": "quality.drop", "at_most": 0.02}],
    "registry": {"model": "wine"},
}
#: A tracking store that can neither be opened nor be made.
NOWHERE = "sqlite:////no/where/mlflow.db"
FP32, INT8 = "fp32@onnxruntime-cpu", "int8@onnxruntime-cpu"

CHECKED = CheckFacts(
    data=DataFact(name="wine-data", sizes={"train": 10, "test": 4}),
    parameters=100,
    memory=MemoryFact(parameters=100, weights=400, gradients=400, optimizer=800, activations=50),
    inputs={"input": TensorFact(shape=(13,), dtype="float32")},
    output=TensorFact(shape=(3,), dtype="float32"),
)


def recipe(**changed: Any) -> Recipe:
    return Recipe.model_validate({**RECIPE, **changed})


def surroundings(missing: str = "") -> Surroundings:
    def availability(target: Any) -> Unavailable | None:
        gone = Unavailable(reason="there is no such hardware", do="buy it", installable=False)
        return gone if target.kind == missing else None

    machine = Processor(architecture="x86_64", name="new", cores=2, features=("avx512_vnni",))
    return Surroundings(cores=2, processor=machine, availability=availability)


def artifact(name: str) -> Artifact:
    files = {"model.onnx": hashlib.sha256(name.encode()).hexdigest()}
    sha256 = tree_digest(files)
    return Artifact(kind="onnx", sha256=sha256, bytes=1000, uri=f"/store/{sha256[:8]}", files=files)


def timing(p50: float, ratio: float = 2.0) -> Timing:
    """Of a candidate whose every round took the same (ms)."""
    rounds = [[p50 / 1000] * 3] * 2
    return Timing(
        p50_ms=p50, p50_ms_low=p50 * 0.9, p50_ms_high=p50 * 1.1, p90_ms=p50 * 1.2, p99_ms=p50 * 1.5,
        calls=90, samples_per_s=1000 / p50, ratio=ratio, ratio_low=ratio - 0.1,
        ratio_high=ratio + 0.1, rounds=rounds,
    )  # fmt: skip


def benchmarked(
    p50: Mapping[str, float], failed: Mapping[str, str] | None = None
) -> BenchmarkFacts:
    """Facts of a benchmark in which each took so long at batch size 1 (ms), and 8 times at 8."""
    return BenchmarkFacts(
        measured={name: {"1": timing(ms), "8": timing(8 * ms)} for name, ms in p50.items()},
        memory=dict.fromkeys(p50, 50_000_000),
        failed={n: Failure(type="StepFailed", what=what) for n, what in (failed or {}).items()},
        processor="new",
    )


@dataclass
class OverAtOnce:
    """A submitter whose steps are over at once.

    Attributes:
        failing: What steps die of, by label.
        metrics: What steps measured, by label.
        facts: What steps found out, by label.
        cached: Labels of steps that are kept from before.
        unchanged: Labels of failing steps that found nothing to change.
    """

    failing: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    unchanged: set[str] = field(default_factory=set)
    done: list[StepResult] = field(default_factory=list)

    def __call__(
        self, call: Call, inputs: dict[str, tuple[Settled, str]], after: Sequence[Settled] = ()
    ) -> Settled:
        if any(step.result is None for step in (*(s for s, _ in inputs.values()), *after)):
            return Settled(None, "a step before it failed")
        if call.label in self.failing:
            return Settled(None, self.failing[call.label], call.label in self.unchanged)
        made = Done(
            outputs={name: artifact(f"{call.label}/{name}") for name in call.step.outputs},
            metrics=self.metrics.get(call.label, {}),
            params={},
            facts=CHECKED.model_dump(mode="json")
            if call.step is CHECK
            else self.facts.get(call.label, {}),
            notes=[f"a note of {call.label}"],
            seconds=1.5,
        )
        self.done.append(
            StepResult(
                step=call.step,
                label=call.label,
                key="k",
                cached=call.label in self.cached,
                done=made,
            )
        )
        return Settled(self.done[-1])


def results(
    made: Recipe,
    steps: OverAtOnce,
    facts: BenchmarkFacts | None = None,
    here: Surroundings | None = None,
    champion: TodaysChampion | None = None,
    drops: dict[str, float] | None = None,
) -> Results:
    """What came of all steps, with these facts of the benchmark; without, there was none.

    A champion was found in the registry; with drops, candidates were compared with it.
    """
    entrant = None if champion is None or champion.unmeasured else entrant_of(champion)
    layout = lay_out(made, here or surroundings(), steps, entrant)
    benchmark = None
    if facts is not None:
        done = Done(outputs={}, metrics={}, params={}, facts=facts.model_dump(mode="json"),
                    notes=[], seconds=9.0)  # fmt: skip
        benchmark = StepResult(step=BENCHMARK, label="benchmark", key="k", cached=False, done=done)
    finished = (*steps.done, *([benchmark] if benchmark else []))
    compared = None if drops is None else Settled(comparison(drops))
    return Results(layout, benchmark, finished, ("a note",), champion, compared)


def given(name: str) -> StepResult:
    """An artifact that nothing made, as a step's result."""
    done = Done(outputs={"model": artifact(name)}, metrics={}, params={}, facts={}, notes=[],
                seconds=0)  # fmt: skip
    return StepResult(step=GIVEN, label="champion", key="k", cached=True, done=done)


def entrant_of(champion: TodaysChampion) -> ChampionEntrant[Settled]:
    return ChampionEntrant(
        version=champion.said, digest=champion.digest, runtime="onnxruntime", options={},
        gpu=False, model=(Settled(given("registered")), "model"),
    )  # fmt: skip


def comparison(drops: dict[str, float]) -> StepResult:
    """How much worse candidates are than the champion, each certain to 0.01."""
    facts = CompareFacts(drops={
        name: {"quality/drop_from_champion": drop, "quality/drop_from_champion_low": drop - 0.01,
               "quality/drop_from_champion_high": drop + 0.01}
        for name, drop in drops.items()
    })  # fmt: skip
    done = Done(outputs={}, metrics={}, params={}, facts=facts.model_dump(mode="json"), notes=[],
                seconds=0.1)  # fmt: skip
    return StepResult(step=COMPARE, label="compare", key="k", cached=False, done=done)


def usual(**quality: float) -> OverAtOnce:
    """Steps of which the validation measured these drops in quality, by variant."""
    return OverAtOnce(
        metrics={
            "reference": {"quality/accuracy": 0.95},
            **{
                f"validate {variant}@onnxruntime-cpu": {
                    "quality/accuracy": 0.95 - drop, "quality/drop": drop, "size/bytes": 1000.0,
                    "parity/sqnr_db": 120.0,
                }
                for variant, drop in quality.items()
            },
        }
    )  # fmt: skip


MEASURED = {BASELINE: 4.0, FP32: 2.0, INT8: 1.0}


class NotingTracker(Tracker):
    """A tracker that notes what it is told, and sends it nowhere."""

    def __init__(self, answers: bool = True) -> None:
        super().__init__(NOWHERE, None, "wine", Path("nowhere"))
        self.entries: list[JournalEntry] = []
        self.answers = answers
        self.models: dict[str, str] = {}

    def _add(self, entry: JournalEntry) -> None:
        self.entries.append(entry)
        if isinstance(entry, ModelEntry):
            self.models[entry.ref] = f"m-{entry.name}"

    def flush(self, seconds: float, while_it_takes: bool = False) -> bool:
        return self.answers

    def model_id(self, ref: str) -> str | None:
        return self.models.get(ref)

    def run_id(self, ref: str) -> str | None:
        return f"id-of-{ref}"

    def told_metrics(self, ref: str) -> dict[str, float]:
        return {
            e.name: e.value for e in self.entries if isinstance(e, MetricEntry) and e.ref == ref
        }

    def told_tags(self, ref: str) -> dict[str, str]:
        return _joined(e.values for e in self.entries if isinstance(e, TagsEntry) and e.ref == ref)

    def told_params(self, ref: str) -> dict[str, str]:
        return _joined(
            e.values for e in self.entries if isinstance(e, ParamsEntry) and e.ref == ref
        )

    def told_texts(self, ref: str) -> dict[str, str]:
        return {
            e.file: e.content for e in self.entries if isinstance(e, TextEntry) and e.ref == ref
        }

    def told_models(self) -> dict[str, ModelEntry]:
        return {e.ref: e for e in self.entries if isinstance(e, ModelEntry)}

    def told_ends(self) -> dict[str, str]:
        return {e.ref: e.status.value for e in self.entries if isinstance(e, FinishEntry)}

    def told_folders(self, ref: str) -> dict[str, str]:
        return {
            e.path: e.folder for e in self.entries if isinstance(e, FolderEntry) and e.ref == ref
        }

    def told_data(self) -> list[DatasetEntry]:
        return [e for e in self.entries if isinstance(e, DatasetEntry)]


def _joined(values: Any) -> dict[str, str]:
    return {name: value for some in values for name, value in some.items()}


class NotingObserver(Silent):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.told: list[tuple[str, str]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def started(self, label: str) -> None:
        self.told.append(("started", label))

    def finished(self, label: str, seconds: float, cached: bool) -> None:
        self.told.append(("kept" if cached else "done", label))


class FolderStore(Store):
    """A store that has every artifact at once."""

    def fetch(self, artifact: Artifact) -> Path:
        return Path(artifact.uri)


def session(folder: Path, store: Store | None = None) -> Session:
    settings = Settings(
        home=folder, store=str(folder / "store"), tracking=NOWHERE, artifacts=None,
        ray_address=None,
    )  # fmt: skip
    return Session(
        recipe=recipe(),
        settings=settings,
        access=AccessPolicy(origin=Origin.COMMAND_LINE, factories=Allowed(prefixes=("mine",))),
        code=None,
        user_code=UserCode(),
        observer=NotingObserver(),
        cluster=Cluster(None),
        store=store or Store(settings.store, settings.cache, OwnerKey(folder)),
    )


def run(folder: Path, made: Recipe | None = None, tracker: NotingTracker | None = None) -> Run:
    """A run that tells a noting tracker."""
    surrounding = session(
        folder, FolderStore(str(folder / "store"), folder / "cache", OwnerKey(folder))
    )
    told = tracker or NotingTracker()
    return Run(
        recipe=made or recipe(),
        session=surrounding,
        tracker=told,
        run_id="r1",
        tags={"hone.source_commit": "abc"},
        runner=Runner(surrounding, told, None),
    )
