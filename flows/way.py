"""The way from recipe to measured candidates: which steps, in which order, with which inputs.

Read by `hone run`, which submits each step to Prefect, and by `hone plan`, which looks each one up
in the cache; so that both tell of the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..recipe.catalogue import METRICS
from ..recipe.errors import InputError
from ..recipe.schema import Recipe, Variant
from ..recipe.targets import AnyTarget
from ..recipe.training import Train
from ..tasks.compile import Unavailable, loader, target_functions
from ..tasks.machine import processor
from ..tasks.steps import (
    BENCHMARK,
    CHECK,
    EXPORT,
    REFERENCE,
    TRAIN,
    VALIDATE,
    Call,
    compile_step,
    compress_step,
    library_version,
)

H = TypeVar("H")


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
    higher = METRICS[recipe.quality.metric].higher_is_better
    limit = recipe.timeouts.step
    check = submit(
        Call(
            CHECK,
            "check",
            {**factories, "loss": recipe.train.loss, "train": _checked(recipe.train)},
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
            cpus=0,  # its workers reserve theirs
            timeout=recipe.timeouts.train,
            retries=0,  # it starts again by itself, within max_failures
            settings={"train": recipe.train.model_dump(mode="json", include=_PATIENCE)},
            placement=frozenset({"mesh", "parallel", "resources", "checkpoint", "accumulate"}),
        ),
        {},
        after=[check],
    )
    weights = (train, "weights")
    reference = submit(Call(REFERENCE, "reference", factories, timeout=limit), {"weights": weights})
    export = submit(
        Call(EXPORT, "export", {"model": factories["model"]}, timeout=limit),
        {"weights": weights, "inputs": (check, "calibration")},
    )
    candidates: list[CandidateWay[H]] = []
    for variant in recipe.variants:
        graph, shared = export, [check, train, reference, export]
        for position, step in enumerate(variant.passes):
            label = f"compress {variant.name}"
            if len(variant.passes) > 1:
                label += f" ({position + 1}: {step.kind})"
            graph = submit(
                Call(
                    compress_step(step.kind),
                    label,
                    {"pass": step.model_dump(mode="json")},
                    timeout=limit,
                ),
                {"graph": (graph, "graph"), "calibration": (check, "calibration")},
            )
            shared.append(graph)
        for target in recipe.targets:
            way = CandidateWay(candidate_name(variant, target), variant, target, shared=shared)
            way.unavailable = target_functions(target.kind).availability(target)
            candidates.append(way)
            if way.unavailable is not None:
                continue
            way.compiled = submit(
                Call(
                    compile_step(target.kind),
                    f"compile {way.name}",
                    {"target": target.model_dump(mode="json")},
                    candidate=way.name,
                    timeout=limit,
                ),
                {"graph": (graph, "graph")},
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
                        "runtime": runtime_versions(target.kind),
                    },
                    candidate=way.name,
                    timeout=limit,
                ),
                {
                    "weights": weights,
                    "model": (way.compiled, "model"),
                    "statistics": (reference, "statistics"),
                },
            )
    return Way(check, train, reference, export, candidates)


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
            {"name": candidate.name, "loader": loader(kind), "runtime": runtime_versions(kind)}
        )
    call = Call(
        BENCHMARK,
        "benchmark",
        {
            "candidates": entries,
            "model": recipe.model.model_dump(mode="json"),
            **recipe.benchmark.model_dump(mode="json"),
            "processor": processor(),
        },
        cpus=cores,
        timeout=recipe.timeouts.step,
    )
    after = [candidate.validated for candidate in able if candidate.validated is not None]
    return submit(call, inputs, after)


def runtime_versions(kind: str) -> dict[str, str]:
    """Versions of the libraries that a target's artifact runs with."""
    return {name: library_version(name) for name in compile_step(kind).libraries}
