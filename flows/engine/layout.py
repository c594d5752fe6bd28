"""What the steps of a run look like once they are laid out, by whatever handles stand for them.

`lay_out.py` makes a layout; the handles are Prefect's futures, the plan's entries, or results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pydantic import JsonValue

from ...recipe.schema import Recipe, Variant
from ...recipe.targets import AnyTarget
from ...tasks.compile import Unavailable
from ...tasks.specs.base import Judged
from ...tasks.steps import Call

H = TypeVar("H")
G = TypeVar("G")


class Submit(Protocol[H]):
    """How a step is run or looked up."""

    def __call__(self, call: Call, inputs: dict[str, tuple[H, str]], after: Sequence[H] = ()) -> H:
        """Submit a step.

        Args:
            call: The step.
            inputs: For each input, the step that writes it and the name of its output.
            after: Steps that must have succeeded first, although their outputs are not used.
        """


@dataclass(frozen=True)
class Laid(Generic[H]):
    """A step that was submitted.

    Attributes:
        call: The step.
        handle: What the submitter returned for it.
    """

    call: Call
    handle: H

    def output(self, name: str) -> tuple[H, str]:
        """One of its outputs, as another step's input.

        Raises:
            ValueError: The step has no such output.
        """
        known = self.call.step.outputs
        if name not in known:
            raise ValueError(f"{self.call.label} has no output '{name}': {sorted(known)}")
        return self.handle, name


@dataclass(frozen=True)
class Shared(Generic[H]):
    """The steps that all candidates share.

    Attributes:
        check: Is what the recipe asks for possible?
        train: The training.
        reference: Quality of the trained model.
        export: Its graph.
        corrupted: The trained model under corrupted inputs, if that is looked at.
        explained: What its answers depend on, if that is looked at.
    """

    check: Laid[H]
    train: Laid[H]
    reference: Laid[H]
    export: Laid[H]
    corrupted: Laid[H] | None = None
    explained: Laid[H] | None = None

    def map(self, over: Callable[[H], G]) -> Shared[G]:
        """The same steps, with other handles."""

        def mapped(step: Laid[H]) -> Laid[G]:
            return Laid(step.call, over(step.handle))

        return Shared(
            mapped(self.check),
            mapped(self.train),
            mapped(self.reference),
            mapped(self.export),
            None if self.corrupted is None else mapped(self.corrupted),
            None if self.explained is None else mapped(self.explained),
        )


@dataclass(frozen=True)
class VariantLayout(Generic[H]):
    """The steps of a variant before its targets.

    Attributes:
        variant: The variant.
        module: Output with the torch module after the passes on it.
        graph: Output with the graph after all passes.
        on_module: Steps that every candidate needs, up to the last pass on the module.
        on_graph: Export and passes on the graph, which only graph targets need.
    """

    variant: Variant
    module: tuple[H, str]
    graph: tuple[H, str]
    on_module: tuple[H, ...]
    on_graph: tuple[H, ...]


@dataclass(frozen=True)
class CandidateLayout(Generic[H]):
    """The steps of one candidate.

    Attributes:
        name: `VARIANT@TARGET`.
        variant: The variant.
        target: The target.
        shared: Steps that it shares with others.
        unavailable: Why the target does not run here; then it has only shared steps.
        compiled: Its compile step.
        validated: Its validation.
        looks: What else is looked at of it; none of these has to succeed.
    """

    name: str
    variant: Variant
    target: AnyTarget
    shared: tuple[H, ...]
    unavailable: Unavailable | None = None
    compiled: H | None = None
    validated: H | None = None
    looks: tuple[H, ...] = ()

    @property
    def steps(self) -> list[H]:
        own = [step for step in (self.compiled, self.validated) if step is not None]
        return [*self.shared, *own]

    def map(self, over: Callable[[H], G]) -> CandidateLayout[G]:
        """The same steps, with other handles."""
        return CandidateLayout(
            self.name,
            self.variant,
            self.target,
            tuple(map(over, self.shared)),
            self.unavailable,
            None if self.compiled is None else over(self.compiled),
            None if self.validated is None else over(self.validated),
            tuple(map(over, self.looks)),
        )


@dataclass(frozen=True)
class ChampionEntrant(Generic[H]):
    """Today's champion among the inputs of a layout.

    Attributes:
        version: Its number in the registry.
        digest: Of all files of that version.
        runtime: Name of the runtime that opens its artifact.
        options: Further options of what opens it.
        gpu: Whether it runs on a GPU.
        model: Where its artifact comes from.
    """

    version: str
    digest: str
    runtime: str
    options: dict[str, JsonValue]
    gpu: bool
    model: tuple[H, str]


@dataclass(frozen=True)
class Layout(Generic[H]):
    """All steps before the benchmark.

    Attributes:
        shared: The steps that all candidates share.
        candidates: Those of each candidate.
        champion: The validation of today's champion, if the recipe compares with it.
    """

    shared: Shared[H]
    candidates: tuple[CandidateLayout[H], ...]
    champion: H | None = None

    def map(self, over: Callable[[H], G]) -> Layout[G]:
        """The same steps, with other handles, such as their results."""
        return Layout(
            self.shared.map(over),
            tuple(candidate.map(over) for candidate in self.candidates),
            None if self.champion is None else over(self.champion),
        )

    @property
    def steps(self) -> list[H]:
        """All of them; one that several candidates share comes several times."""
        own = [step for candidate in self.candidates for step in candidate.steps]
        beside = [] if self.champion is None else [self.champion]
        return [self.check, self.train, self.reference, self.export, *own, *beside]

    @property
    def check(self) -> H:
        return self.shared.check.handle

    @property
    def train(self) -> H:
        return self.shared.train.handle

    @property
    def reference(self) -> H:
        return self.shared.reference.handle

    @property
    def export(self) -> H:
        return self.shared.export.handle


def hand(
    submit: Submit[H],
    call: Call,
    inputs: dict[str, tuple[H, str]] | None = None,
    after: Sequence[H] = (),
) -> Laid[H]:
    """Submit a step.

    Raises:
        ValueError: Its inputs are not those that it declares.
    """
    given, declared = set(inputs or {}), call.step.inputs
    if given != declared and not (call.step.takes_candidates and given > declared):
        raise ValueError(f"{call.label} takes {sorted(declared)}, not {sorted(given)}")
    return Laid(call, submit(call, inputs or {}, after))


def judged_by(recipe: Recipe) -> Judged:
    """What every judgement of quality of a recipe has in common."""
    return Judged(
        model=recipe.model,
        data=recipe.data,
        metric=recipe.quality.metric,
        metric_outputs=recipe.quality.outputs,
        seed=recipe.train.seed,
    )
