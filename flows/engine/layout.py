"""The way from recipe to measured candidates: which steps, in which order, with which inputs.

Read by `hone run`, which submits each step to Prefect, and by `hone plan`, which looks each one up
in the cache; so that both tell of the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ...ray_workers.processor import Processor, processor
from ...recipe.errors import InputError
from ...recipe.passes import Pass, for_processor
from ...recipe.schema import Recipe, Variant
from ...recipe.targets import AnyTarget
from ...recipe.training import Train
from ...tasks.compile import Unavailable, target_functions
from ...tasks.steps import (
    BASELINE_LOADER,
    BENCHMARK,
    CHECK,
    EXPORT,
    REFERENCE,
    TRAIN,
    VALIDATE,
    Call,
    builder_modules,
    compile_step,
    compress_step,
    loader,
    loader_module,
    metric_module,
    requirement_files,
)

H = TypeVar("H")


#: Where and in which parts training is computed: other ones go on from the same checkpoints.
_PLACEMENT = frozenset({"mesh", "parallel", "resources", "checkpoint", "accumulate"})
#: Settings of a training that change nothing of what it computes.
_PATIENCE = {"max_failures", "wait_for_workers", "launcher"}


def check_targets(recipe: Recipe) -> None:
    """Refuse targets that are not installed, before anything starts.

    Raises:
        InputError: With the command that installs what is missing.
    """
    for index, target in enumerate(recipe.targets):
        unavailable = target_functions(target.kind).availability(target)
        if unavailable is not None and unavailable.installable:
            raise InputError(
                f"{target.name} can't be used: {unavailable.reason}",
                where=f"targets.{index}",
                do=unavailable.do,
            )


class Submit(Protocol[H]):
    """How a step is run or looked up."""

    def __call__(self, call: Call, inputs: dict[str, tuple[H, str]], after: Sequence[H] = ()) -> H:
        """Hand over a step.

        Args:
            call: The step.
            inputs: Each input's step and the name of its output there.
            after: Steps that must have succeeded before, though nothing of them is used.
        """


@dataclass
class CandidateWay(Generic[H]):
    """The steps of one candidate; empty where its target does not run here."""

    name: str
    variant: Variant
    target: AnyTarget
    unavailable: Unavailable | None = None
    shared: list[H] = field(default_factory=list)
    compiled: H | None = None
    validated: H | None = None

    @property
    def steps(self) -> list[H]:
        own = [step for step in (self.compiled, self.validated) if step is not None]
        return [*self.shared, *own]


@dataclass
class Way(Generic[H]):
    """All steps before the benchmark."""

    check: H
    train: H
    reference: H
    export: H
    candidates: list[CandidateWay[H]]


def candidate_name(variant: Variant, target: AnyTarget) -> str:
    return f"{variant.name}@{target.name}"


def lay_out(recipe: Recipe, submit: Submit[H]) -> Way[H]:
    """Hand over every step up to validation, each once however many candidates share it."""
    factories = {
        "model": recipe.model.model_dump(mode="json"),
        "data": recipe.data.model_dump(mode="json"),
        "metric": recipe.quality.metric,
        "seed": recipe.train.seed,
    }
    higher = recipe.quality.rises
    limit = recipe.timeouts.step
    metric = metric_module(recipe.quality.metric)
    here = processor()
    check = submit(
        Call(
            CHECK,
            "check",
            {
                **factories,
                "loss": recipe.train.loss,
                "train": _checked(recipe.train),
                "trains": recipe.train.epochs > 0,
            },
            loads=(metric,),
            timeout=limit,
        ),
        {},
    )
    train = submit(
        Call(
            TRAIN,
            "train",
            {
                "model": factories["model"],
                "data": factories["data"],
                "train": recipe.train.model_dump(mode="json", exclude=_PATIENCE),
                "metric": recipe.quality.metric,
                "higher_is_better": higher,
            },
            loads=(metric,),
            cpus=0 if recipe.train.epochs else 1,  # its workers reserve theirs
            timeout=recipe.timeouts.train,
            retries=0,  # it starts again by itself, within max_failures
            settings={"train": recipe.train.model_dump(mode="json", include=_PATIENCE)},
            placement=_PLACEMENT,
        ),
        {},
        after=[check],
    )
    weights = (train, "weights")
    reference = submit(
        Call(REFERENCE, "reference", factories, loads=(metric,), timeout=limit),
        {"weights": weights},
    )

    def export_of(module: tuple[H, str], label: str) -> H:
        return submit(
            Call(EXPORT, label, {"model": factories["model"]}, timeout=limit),
            {"weights": module, "inputs": (check, "calibration")},
        )

    export = export_of(weights, "export")
    candidates: list[CandidateWay[H]] = []
    for variant in recipe.variants:
        module, shared = weights, [check, train, reference]
        on_module = [step for step in variant.passes if step.works_on == "module"]
        on_graph = [step for step in variant.passes if step.works_on == "graph"]
        for position, step in enumerate(on_module):
            call = _module_pass(recipe, factories, variant, step, position)
            module = (submit(call, {"module": module}), "module")
            shared.append(module[0])
        after_module: list[H] = []
        graph = export_of(module, f"export {variant.name}") if on_module else export
        shared.append(graph)
        after_module.append(graph)
        takes_graph = any(target.takes == "graph" for target in recipe.targets)
        for position, graph_step in enumerate(on_graph if takes_graph else (), len(on_module)):
            controls = graph_step.looks_at_validation
            graph = submit(
                Call(
                    compress_step(graph_step),
                    _pass_label(variant, position),
                    {
                        **_graph_pass(graph_step, here),
                        **({**factories, "higher_is_better": higher} if controls else {}),
                    },
                    loads=(metric,) if controls else (),
                    timeout=limit,
                ),
                {"graph": (graph, "graph"), "calibration": (check, "calibration")},
            )
            shared.append(graph)
            after_module.append(graph)
        for target in recipe.targets:
            way = CandidateWay(candidate_name(variant, target), variant, target, shared=shared)
            if target.takes == "module":
                way.shared = [step for step in shared if step not in after_module]
            way.unavailable = target_functions(target.kind).availability(target)
            candidates.append(way)
            if way.unavailable is not None:
                continue
            spec: dict[str, Any] = {"target": target.model_dump(mode="json")}
            if target.fixed_batch:
                spec["batch_sizes"] = list(recipe.benchmark.batch_sizes)
            sources = {"graph": (graph, "graph")}
            if target.takes == "module":
                spec |= {
                    "model": factories["model"],
                    "passes": [step.model_dump(mode="json") for step in on_graph],
                }
                sources = {"module": module, "calibration": (check, "calibration")}
            if target.native:
                spec["processor"] = here.identity()
            way.compiled = submit(
                Call(
                    compile_step(target),
                    f"compile {way.name}",
                    spec,
                    loads=builder_modules(target.kind),
                    files=requirement_files(target.kind),
                    candidate=way.name,
                    gpus=1 if target.gpu else 0,
                    timeout=limit,
                ),
                sources,
            )
            way.validated = submit(
                Call(
                    VALIDATE,
                    f"validate {way.name}",
                    {
                        **factories,
                        "groups": recipe.quality.groups,
                        "higher_is_better": higher,
                        "loader": loader(target.kind),
                        "environment": target.environment,
                        "processor": here.identity(),
                    },
                    loads=(metric, loader_module(target.kind)),
                    files=requirement_files(target.kind),
                    candidate=way.name,
                    gpus=1 if target.gpu else 0,
                    timeout=limit,
                ),
                {
                    "weights": weights,
                    "model": (way.compiled, "model"),
                    "statistics": (reference, "statistics"),
                },
            )
    return Way(check, train, reference, export, candidates)


def _pass_label(variant: Variant, position: int) -> str:
    label = f"compress {variant.name}"
    if len(variant.passes) > 1:
        label += f" ({position + 1}: {variant.passes[position].name})"
    return label


def _graph_pass(asked: Pass, here: Processor) -> dict[str, Any]:
    """A pass on the graph, as it is for this processor; what quantization measures and how many
    bits it takes depend on it.
    """
    spec: dict[str, Any] = {
        "pass": for_processor(asked, here.saturates_int8).model_dump(mode="json")
    }
    if asked.depends_on_processor:
        spec["processor"] = here.identity()
    return spec


def _module_pass(
    recipe: Recipe, factories: dict[str, Any], variant: Variant, compression: Pass, position: int
) -> Call:
    """A pass on the torch module; one that trains has workers of its own."""
    return Call(
        compress_step(compression),
        _pass_label(variant, position),
        {
            **factories,
            "pass": compression.model_dump(mode="json"),
            "label": f"{variant.name}/{compression.name}",
            "train": recipe.train.model_dump(mode="json", exclude=_PATIENCE),
            "higher_is_better": recipe.quality.rises,
        },
        loads=(metric_module(recipe.quality.metric),),
        cpus=0 if compression.trains else 1,
        timeout=recipe.timeouts.train if compression.trains else recipe.timeouts.step,
        retries=0 if compression.trains else None,
        settings={"train": recipe.train.model_dump(mode="json", include=_PATIENCE)},
        placement=_PLACEMENT,
    )


def _checked(train: Train) -> dict[str, Any]:
    """What of the training the check looks at; the rest may change without another check."""
    placed = {"mesh", "parallel", "resources", "compile", "recompute"}
    held = {"batch_size", "accumulate", "optimizer", "ema"}
    return {"epochs": 1, **train.model_dump(mode="json", include=placed | held)}


def measure(
    recipe: Recipe, way: Way[H], able: Sequence[CandidateWay[H]], submit: Submit[H], cores: float
) -> H:
    """Hand over the benchmark of the candidates that got so far.

    It holds every core, so nothing else of the run works beside it.
    """
    inputs: dict[str, tuple[H, str]] = {
        "weights": (way.train, "weights"),
        "samples": (way.check, "samples"),
    }
    entries: list[dict[str, Any]] = []
    for candidate in able:
        assert candidate.compiled is not None
        inputs[candidate.name] = (candidate.compiled, "model")
        kind = candidate.target.kind
        entries.append(
            {
                "name": candidate.name,
                "loader": loader(kind),
                "environment": candidate.target.environment,
            }
        )
    call = Call(
        BENCHMARK,
        "benchmark",
        {
            "candidates": entries,
            "model": recipe.model.model_dump(mode="json"),
            **recipe.benchmark.model_dump(mode="json"),
            "processor": str(processor()),
            "baseline": BASELINE_LOADER,
        },
        loads=(
            BASELINE_LOADER.partition(":")[0],
            *dict.fromkeys(loader_module(candidate.target.kind) for candidate in able),
        ),
        files=tuple(
            dict.fromkeys(
                file for candidate in able for file in requirement_files(candidate.target.kind)
            )
        ),
        cpus=cores,
        gpus=1 if any(candidate.target.gpu for candidate in able) else 0,
        timeout=recipe.timeouts.step,
    )
    after = [candidate.validated for candidate in able if candidate.validated is not None]
    return submit(call, inputs, after)
